require("msys.core")
require("msys.extended.message")
local mod, core = {}, msys.core

function mod:validate_data_spool(msg, ac, vctx)
  print("before", msg:mailfrom())
  if msg:mailfrom() == "" then return core.VALIDATE_CONT end
  msg:mailfrom("bounces@example.com")
  print("after", msg:mailfrom())
  return core.VALIDATE_CONT
end

msys.registerModule("mailfrom_set", mod)

--[[ dialogue
> EHLO client.example
< 250
message a@example.org b@example.com
| Subject: x
|
| y
< 250
sender bounces@example.com
logged before\ta@example.org
logged after\tbounces@example.com
message - b@example.com
| Subject: x
|
| y
< 250
sender -
]]
