require("msys.core")
require("msys.pcre")
require("json")
local mod, core = {}, msys.core

function mod:validate_data_spool(msg, ac, vctx)
  local ok, text = pcall(msg.body_match, msg, "(a|aa)+$")
  local deep, err = pcall(json.encode, self.nested or {})
  local part, count = msg:mime(true), 0
  while part do part, count = part.thread, count + 1 end
  vctx:set_code(550, "5.7.1 " .. tostring(ok) .. " " .. (string.match(text, "limit") or "") .. " " .. count)
  return core.VALIDATE_DONE
end

msys.registerModule("hostile_content", mod)

--[[ dialogue
> EHLO client.example
< 250
message a@example.org b@example.com
| Content-Type: multipart/mixed; boundary=a
|
| --a
| Content-Type: multipart/mixed; boundary=a
|
| aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!
| --a--
< 550 5.7.1 false limit 2
]]
