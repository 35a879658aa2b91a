require("msys.core")
require("msys.extended.message")
local mod, core = {}, msys.core

function mod:validate_data_spool_each_rcpt(msg, ac, vctx)
  if msg:rcptto() == "old@example.com" then msg:rcptto("new@example.com") end
  return core.VALIDATE_CONT
end

msys.registerModule("rcptto_set", mod)

--[[ dialogue
> EHLO client.example
< 250
message a@example.org old@example.com other@example.com
| Subject: x
|
| y
< 250
recipients new@example.com other@example.com
]]
