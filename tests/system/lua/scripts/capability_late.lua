require("msys.core")
require("msys.extended.ac")
local mod, core = {}, msys.core

function mod:validate_mailfrom(str, ac, vctx)
  ac:esmtp_capability_add("X-LATE")
  return core.VALIDATE_CONT
end

msys.registerModule("capability_late", mod)

--[[ dialogue
> EHLO client.example
< 250
> MAIL FROM:<a@example.org>
< 421
logged capabilities are changed at connect and ehlo, not at mailfrom
closed
]]
