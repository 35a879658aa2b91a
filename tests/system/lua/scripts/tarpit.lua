require("msys.core")
local mod, core = {}, msys.core

function mod:validate_ehlo(str, ac, vctx)
  vctx:tarpit(1.5)
  vctx:tarpit(2)
  return core.VALIDATE_CONT
end

msys.registerModule("tarpit", mod)

--[[ dialogue
clock
> EHLO client.example
< 250
passed 3.5
> NOOP
< 250
passed 0
]]
