require("msys.core")
local mod, core = {}, msys.core

function mod:validate_mailfrom(str, ac, vctx)
  if ac.protocol == core.P_ESMTP then return core.VALIDATE_CONT end
  vctx:set_code(550, "5.7.1 say EHLO")
  return core.VALIDATE_DONE
end

msys.registerModule("protocol", mod)

--[[ dialogue
> HELO client.example
< 250
> MAIL FROM:<a@example.org>
< 550 5.7.1 say EHLO
> EHLO client.example
< 250
> MAIL FROM:<a@example.org>
< 250
]]
