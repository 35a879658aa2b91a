require("msys.core")
require("msys.extended.message")
local mod, core = {}, msys.core

function mod:validate_data_spool(msg, ac, vctx)
  msg:header("X-Replaced", "new")
  msg:header("X-Deleted", "")
  msg:header("X-First", "top", "prepend")
  msg:header("X-Last", { "one", "two" }, "append")
  msg:header("Subject", "grüße")
  return core.VALIDATE_CONT
end

msys.registerModule("header_write", mod)

--[[ dialogue
> EHLO client.example
< 250
message a@example.org b@example.com
| X-Replaced: old
| X-Deleted: 1
| Subject: old
| X-Replaced: older
|
| y
< 250
delivered 1
content X-First: top | X-Replaced: new | X-Last: one | X-Last: two | Subject: =?UTF-8?B?Z3LDvMOfZQ==?= |  | y
]]
