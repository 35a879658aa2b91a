require("msys.core")
local mod, core = {}, msys.core

function mod:validate_mailfrom(str, ac, vctx)
  msys.lock("one")
  if vctx:get(core.VCTX_MESS, "mailfrom_localpart") == "good" then msys.unlock("one") end
  return core.VALIDATE_CONT
end

msys.registerModule("lock", mod)

--[[ dialogue
> EHLO client.example
< 250
> MAIL FROM:<good@example.org>
< 250
> RSET
< 250
> MAIL FROM:<forgets@example.org>
< 250
logged the lock 'one' was held at the end of the callout
> RSET
< 250
> MAIL FROM:<good@example.org>
< 250
]]
