require("msys.core")
require("msys.extended.message")
local mod, core = {}, msys.core

function mod:validate_data_spool(msg, ac, vctx)
  local subject, received = msg:header("subject"), msg:header("X-Twice")
  print("subject", subject[1], "twice", #received, received[2], "none", #msg:header("X-None"))
  return core.VALIDATE_CONT
end

msys.registerModule("header_read", mod)

--[[ dialogue
> EHLO client.example
< 250
message a@example.org b@example.com
| Subject: =?utf-8?q?caf=C3=A9?=
|  =?utf-8?b?IQ==?=
| X-Twice: 1
| X-Twice: 2
|
| y
< 250
logged subject\tcafé!\ttwice\t2\t2\tnone\t0
]]
