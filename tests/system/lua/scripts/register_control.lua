require("msys.core")
local mod, core = {}, msys.core
local seen = 0

function mod:rsrc_setup()
  msys.registerControl("seen", function(cc)
    if cc.argc > 1 and cc.argv[1] == "reset" then seen = 0 end
    if cc.argc > 1 and cc.argv[1] == "fail" then error("broken") end
    print("seen", seen, cc.argv[0])
  end)
  return true
end

function mod:validate_ehlo(str, ac, vctx)
  seen = seen + 1
  return core.VALIDATE_CONT
end

msys.registerModule("register_control", mod)

--[[ dialogue
> EHLO client.example
< 250
> EHLO client.example
< 250
console seen
= seen\t2\tseen
console seen reset
= seen\t0\tseen
console seen fail
= broken
]]
