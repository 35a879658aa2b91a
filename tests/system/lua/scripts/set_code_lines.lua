require("msys.core")
local mod, core = {}, msys.core

function mod:validate_rcptto(msg, str, ac, vctx)
  if msg:rcptto() == "lines@example.com" then vctx:set_code("550", "5.7.1 first\nsecond")
  elseif msg:rcptto() == "ok@example.com" then vctx:set_code(250, "2.1.5 taken by a script")
  elseif msg:rcptto() == "cont@example.com" then
    vctx:set_code(450, "4.7.1 later")
    return core.VALIDATE_CONT
  else return core.VALIDATE_CONT end
  return core.VALIDATE_DONE
end

msys.registerModule("set_code_lines", mod)

--[[ dialogue
> EHLO client.example
< 250
> MAIL FROM:<a@example.org>
< 250
> RCPT TO:<lines@example.com>
< 550 5.7.1 first | 5.7.1 second
> RCPT TO:<ok@example.com>
< 250 2.1.5 taken by a script
> RCPT TO:<cont@example.com>
< 450 4.7.1 later
> RCPT TO:<b@example.com>
< 250
]]
