require("msys.core")
require("msys.extended.message")
local mod, core = {}, msys.core

function mod:validate_data_spool(msg, ac, vctx)
  msg:header("X-Subject", msg:header("X-Evil")[1])
  return core.VALIDATE_CONT
end

msys.registerModule("header_injection", mod)

--[[ dialogue
> EHLO client.example
< 250
message a@example.org b@example.com
| X-Evil: =?utf-8?q?a=0D=0ABcc:_x=40example.org?=
|
| y
< 421
logged has a line end
delivered 0
]]
