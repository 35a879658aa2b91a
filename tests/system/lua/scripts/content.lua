require("msys.core")
require("msys.extended.message")
local mod, core = {}, msys.core

function mod:validate_data_spool(msg, ac, vctx)
  local found = msg:text_match("(caf.+)$")
  print("size", msg:get_message_size() == #msg:raw(), #msg:body() < #msg:raw())
  print("raw", msg:raw_match("^Subject: (.*)\\r")[1], msg:body_match("nothing"))
  print("text", msg:text(), found and found[1])
  return core.VALIDATE_CONT
end

msys.registerModule("content", mod)

--[[ dialogue
> EHLO client.example
< 250
message a@example.org b@example.com
| Subject: x y
| Content-Type: text/plain; charset=utf-8
| Content-Transfer-Encoding: base64
|
| Y2Fmw6k=
< 250
logged size\ttrue\ttrue
logged raw\tx y\tfalse
logged text\tcafé\tcafé
]]
