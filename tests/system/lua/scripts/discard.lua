require("msys.core")
require("msys.extended.message")
local mod, core = {}, msys.core

function mod:validate_data_spool(msg, ac, vctx)
  if msg:header("X-Spam")[1] == "yes" then msg:discard("550 5.7.1 spam") end
  return core.VALIDATE_CONT
end

msys.registerModule("discard", mod)

--[[ dialogue
> EHLO client.example
< 250
message a@example.org b@example.com
| X-Spam: yes
|
| buy
< 250
delivered 0
message a@example.org b@example.com
| X-Spam: no
|
| hello
< 250
delivered 1
]]
