require("msys.core")
require("counter")
local mod, core = {}, msys.core

local seen = counter.open("/inbound/seen", counter.RELAXED)

function mod:validate_connect(ac, vctx)
  counter.inc(seen)
  counter.add(seen, 2)
  return core.VALIDATE_CONT
end

function mod:validate_ehlo(str, ac, vctx)
  local before = counter.read(seen)
  counter.reset(seen)
  vctx:set_code(550, "5.7.1 " .. before .. counter.read("/inbound/seen") .. tostring(counter.unlink(seen)))
  return core.VALIDATE_DONE
end

msys.registerModule("counter", mod)

--[[ dialogue
connect
> EHLO client.example
< 550 60true
]]
