require("msys.core")
require("msys.extended.message")
local mod, core = {}, msys.core

function mod:validate_data_spool(msg, ac, vctx)
  local part, names = msg:mime(true), {}
  while part do
    local kind, charset, encoding, is_attachment, filename = part:content_type()
    if is_attachment then names[#names + 1] = filename .. " " .. kind .. " " .. (part:header("X-Part")[1] or "") end
    part = part.thread
  end
  if #names > 0 then
    vctx:set_code(550, "5.7.1 attached: " .. table.concat(names, ","))
    return core.VALIDATE_DONE
  end
  local texts = msg:text()
  print("texts", type(texts), texts[1], texts[2])
  return core.VALIDATE_CONT
end

msys.registerModule("mime", mod)

--[[ dialogue
> EHLO client.example
< 250
message a@example.org b@example.com
| Content-Type: multipart/mixed; boundary=b
|
| --b
|
| text
| --b
| Content-Type: application/x-msdownload; name="a.exe"
| Content-Disposition: attachment; filename="a.exe"
| X-Part: yes
|
| MZ
| --b--
< 550 5.7.1 attached: a.exe application/x-msdownload yes
message a@example.org b@example.com
| Content-Type: multipart/alternative; boundary=b
|
| --b
|
| one
| --b
| Content-Type: text/html
|
| two
| --b--
< 250
logged texts\ttable\tone\ttwo
]]
