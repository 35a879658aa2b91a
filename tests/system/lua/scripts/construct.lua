require("msys.core")
require("msys.extended.ac")
local mod, core = {}, msys.core

function mod:validate_rcptto(msg, str, ac, vctx)
  local mc = core.accept_construct_get_message_construct(ac)
  mc.ctx:set(core.VCTX_MESS, "by", mc.message:rcptto())
  vctx:set_code(550, "5.7.1 " .. vctx:get(core.VCTX_MESS, "by"))
  return core.VALIDATE_DONE
end

msys.registerModule("construct", mod)

--[[ dialogue
> EHLO client.example
< 250
> MAIL FROM:<a@example.org>
< 250
> RCPT TO:<ann@example.com>
< 550 5.7.1 ann@example.com
]]
