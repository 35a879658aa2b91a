require("msys.core")
require("msys.extended.vctx")
local mod, core = {}, msys.core

function mod:validate_data_spool(msg, ac, vctx)
  local list = vctx:recipient_list()
  print("list", #list, list[0] == "", list[1])
  vctx:add_recipient("archive@example.com")
  vctx:remove_recipient("gone@example.com")
  return core.VALIDATE_CONT
end

function mod:validate_rcptto_list(list, vctx)
  print("callout", #list, list[#list])
  return core.VALIDATE_CONT
end

function mod:validate_rcptto_list_final(list, vctx)
  print("final", pcall(vctx.add_recipient, vctx, "late@example.com"))
  return core.VALIDATE_CONT
end

msys.registerModule("recipient_list", mod)

--[[ dialogue
> EHLO client.example
< 250
message a@example.org b@example.com gone@example.com
| Subject: x
|
| y
< 250
recipients archive@example.com b@example.com
logged list\t2\ttrue\tb@example.com
logged callout\t2\tarchive@example.com
logged final\tfalse\tthe list of recipients is final
]]
