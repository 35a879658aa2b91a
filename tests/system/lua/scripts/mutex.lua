require("msys.core")
require("thread")
local mod, core = {}, msys.core

local mutex = thread.mutex()
local inside = 0

function mod:validate_mailfrom(str, ac, vctx)
  mutex:lock()
  inside = inside + 1
  msys.sleep(0.01)
  local alone, free = inside == 1, mutex:trylock()
  inside = inside - 1
  mutex:unlock()
  vctx:set_code(550, "5.7.1 " .. tostring(alone) .. tostring(free))
  return core.VALIDATE_DONE
end

msys.registerModule("mutex", mod)

--[[ dialogue
> EHLO client.example
< 250
> MAIL FROM:<a@example.org>
< 550 5.7.1 truefalse
> MAIL FROM:<a@example.org>
< 550 5.7.1 truefalse
]]
