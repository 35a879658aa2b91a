require("msys.core")
require("msys.pcre")
local mod, core = {}, msys.core

function mod:validate_ehlo(str, ac, vctx)
  local found, text, number = msys.pcre.match(vctx:get(core.VCTX_CONN, "ehlo_domain"), "^(a|aa)+$")
  vctx:set_code(550, "5.7.1 " .. tostring(found) .. " " .. tostring(text))
  return core.VALIDATE_DONE
end

msys.registerModule("pcre_bomb", mod)

--[[ dialogue
> EHLO aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1
< 550 nil match limit exceeded
]]
