require("msys.core")
local mod, core = {}, msys.core

function mod:validate_connect(ac, vctx)
  vctx:set(core.VCTX_CONN, "number", 5)
  vctx:set(core.VCTX_CONN, "truth", true)
  return core.VALIDATE_CONT
end

function mod:validate_mailfrom(str, ac, vctx)
  vctx:set(core.VCTX_MESS, "seen", (tonumber(vctx:get(core.VCTX_MESS, "seen")) or 0) + 1)
  return core.VALIDATE_CONT
end

function mod:validate_rcptto(msg, str, ac, vctx)
  local text = vctx:get(core.VCTX_CONN, "number") .. vctx:get(core.VCTX_CONN, "truth") .. vctx:get(core.VCTX_MESS, "seen")
  vctx:set_code(550, "5.7.1 " .. text)
  return core.VALIDATE_DONE
end

msys.registerModule("vctx_set", mod)

--[[ dialogue
> EHLO client.example
< 250
> MAIL FROM:<a@example.org>
< 250
> RCPT TO:<b@example.com>
< 550 5.7.1 5true1
> RSET
< 250
> MAIL FROM:<a@example.org>
< 250
> RCPT TO:<b@example.com>
< 550 5.7.1 5true1
]]
