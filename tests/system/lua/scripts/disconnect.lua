require("msys.core")
local mod, core = {}, msys.core

function mod:validate_mailfrom(str, ac, vctx)
  local sender = vctx:get(core.VCTX_MESS, "mailfrom_string")
  if sender == "a@bad.example" then vctx:disconnect(421, "4.7.0 go away")
  elseif sender == "b@bad.example" then
    vctx:set_code(421, "4.7.0 and stay away")
    vctx.disconnect = 1
  else return core.VALIDATE_CONT end
  return core.VALIDATE_DONE
end

msys.registerModule("disconnect", mod)

--[[ dialogue
> EHLO client.example
< 250
> MAIL FROM:<a@bad.example>
< 421 4.7.0 go away
closed
connect
> EHLO client.example
< 250
> MAIL FROM:<b@bad.example>
< 421 4.7.0 and stay away
closed
connect
> EHLO client.example
< 250
> MAIL FROM:<c@good.example>
< 250
]]
