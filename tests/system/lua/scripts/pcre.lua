require("msys.core")
require("msys.pcre")
local mod, core = {}, msys.core

function mod:validate_rcptto(msg, str, ac, vctx)
  local m = msys.pcre.match(msg:rcptto(), "^(?P<user>[^+@]+)(\\+([^@]+))?@(.+)$")
  local words = msys.pcre.split(m[4], "[.]")
  local bad, text, number = msys.pcre.match("a", "(")
  vctx:set_code(550, "5.7.1 " .. m.user .. " " .. m[3] .. " " .. #words .. " " .. words[1] .. " " ..
    msys.pcre.replace(m[4], "([a-z]+)[.]", "<$1>") .. " " .. tostring(bad) .. type(text) .. type(number) .. " " ..
    tostring(msys.pcre.match("abc", "x")))
  return core.VALIDATE_DONE
end

msys.registerModule("pcre", mod)

--[[ dialogue
> EHLO client.example
< 250
> MAIL FROM:<a@example.org>
< 250
> RCPT TO:<ann+list@mail.example.com>
< 550 5.7.1 ann list 3 mail <mail><example>com nilstringnumber nil
]]
