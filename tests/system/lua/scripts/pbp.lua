require("msys.core")
local mod, core = {}, msys.core

function mod:validate_mailfrom(str, ac, vctx)
  local user = vctx:get(core.VCTX_MESS, "mailfrom_localpart")
  if user == "slow" then return vctx:pbp_action(451, "4.7.1 slow down") end
  if user == "bad" then return vctx:pbp_disconnect(554, "5.7.1 no more") end
  return core.VALIDATE_CONT
end

msys.registerModule("pbp", mod)

--[[ dialogue
> EHLO client.example
< 250
> MAIL FROM:<slow@example.org>
< 451 4.7.1 slow down
> MAIL FROM:<bad@example.org>
< 554 5.7.1 no more
closed
]]
