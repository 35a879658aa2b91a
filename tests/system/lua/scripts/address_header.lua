require("msys.core")
require("msys.extended.message")
local mod, core = {}, msys.core

function mod:validate_data_spool(msg, ac, vctx)
  local user, detail = msg:address_header("To", "user"), msg:address_header("To", "detail")
  vctx:set_code(550, "5.7.1 " .. #user .. user[1] .. detail[1] .. " " .. msg:address_header("To", "domain")[2] .. " " ..
    msg:address_header("From")[1] .. " " .. #msg:address_header("Cc") .. " " ..
    msys.parseRFC2822Addresses("x@a.example, Y <y@b.example>", "domain")[2])
  return core.VALIDATE_DONE
end

msys.registerModule("address_header", mod)

--[[ dialogue
> EHLO client.example
< 250
message a@example.org b@example.com
| From: "Ann, A." <ann@example.org>
| To: Bob <bob+news@example.com>, c@example.net
|
| y
< 550 5.7.1 2bobnews example.net ann@example.org 0 b.example
]]
