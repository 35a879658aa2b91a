require("msys.core")
local mod, core = {}, msys.core

function mod:validate_rcptto(msg, str, ac, vctx)
  local found = string.find(tostring(str), "b@example.com", 1, true)
  vctx:set_code(550, "5.7.1 " .. tostring(found ~= nil) .. tostring(#str == #str.buffer))
  return core.VALIDATE_DONE
end

msys.registerModule("ec_string", mod)

--[[ dialogue
> EHLO client.example
< 250
> MAIL FROM:<a@example.org>
< 250
> RCPT TO:<b@example.com>
< 550 5.7.1 truetrue
]]
