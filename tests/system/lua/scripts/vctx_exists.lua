require("msys.core")
local mod, core = {}, msys.core

function mod:validate_ehlo(str, ac, vctx)
  local n, value = vctx:exists_and_get(core.VCTX_CONN, "ehlo_domain")
  local m, nothing = vctx:exists_and_get(core.VCTX_CONN, "no_such_key")
  local text = vctx:exists(core.VCTX_CONN, "ehlo_domain") .. vctx:exists(core.VCTX_CONN, "no_such_key")
  vctx:set(core.VCTX_CONN, "gone", "1")
  text = text .. vctx:delete(core.VCTX_CONN, "gone") .. vctx:delete(core.VCTX_CONN, "gone")
  vctx:set_code(550, "5.7.1 " .. text .. n .. value .. m .. tostring(nothing))
  return core.VALIDATE_DONE
end

msys.registerModule("vctx_exists", mod)

--[[ dialogue
> EHLO client.example
< 550 10101client.example0nil
]]
