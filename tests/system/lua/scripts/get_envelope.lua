require("msys.core")
require("msys.extended.message")
local mod, core = {}, msys.core

function mod:validate_rcptto(msg, str, ac, vctx)
  local user, domain, whole = core.string_new(), core.string_new(), core.string_new()
  msg:get_envelope2(core.EC_MSG_ENV_FROM, user, domain)
  msg:get_envelope2(core.EC_MSG_ENV_TO | core.EC_MSG_ENV_COMPLETE, whole)
  vctx:set_code(550, "5.7.1 " .. tostring(user) .. " at " .. domain.buffer .. " to " .. tostring(whole) .. " " .. #user)
  return core.VALIDATE_DONE
end

msys.registerModule("get_envelope", mod)

--[[ dialogue
> EHLO client.example
< 250
> MAIL FROM:<ann@example.org>
< 250
> RCPT TO:<b@example.com>
< 550 5.7.1 ann at example.org to b@example.com 3
]]
