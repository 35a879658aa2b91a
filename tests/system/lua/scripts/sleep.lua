require("msys.core")
local mod, core = {}, msys.core

function mod:validate_ehlo(str, ac, vctx)
  msys.sleep(2.5)
  return core.VALIDATE_CONT
end

msys.registerModule("sleep", mod)

--[[ dialogue
clock
> EHLO client.example
< 250
passed 2.5
]]
