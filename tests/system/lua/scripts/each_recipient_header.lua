require("msys.core")
require("msys.extended.message")
local mod, core = {}, msys.core

function mod:validate_data_spool_each_rcpt(msg, ac, vctx)
  local user = string.match(msg:rcptto(), "^(.-)@")
  if user != "plain" then msg:header("X-For", user) end
  return core.VALIDATE_CONT
end

msys.registerModule("each_recipient_header", mod)

--[[ dialogue
> EHLO client.example
< 250
message a@example.org one@example.com plain@example.com two@example.com
| X-For: nobody
|
| y
< 250
delivered 3
copy one@example.com X-For: one |  | y
copy plain@example.com X-For: nobody |  | y
copy two@example.com X-For: two |  | y
]]
