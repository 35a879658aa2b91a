require("msys.core")
require("msys.threadpool")
require("msys.pcre")
local mod, core = {}, msys.core

function mod:validate_ehlo(str, ac, vctx)
  local ok, a, b = msys.runInPool("IO", function() return "a", msys.pcre.match("b", "b")[0] end)
  local failed, text = msys.runInPool("CPU", function() error("no", 0) end)
  local order = ""
  msys.runInPool("IO", function() order = order .. "1" end, function() order = order .. "2" end)
  local later = msys.runInPool("IO", function() print("later", order) end, true)
  order = order .. "3"
  vctx:set_code(550, "5.7.1 " .. tostring(ok) .. a .. b .. tostring(failed) .. text .. order .. tostring(later))
  return core.VALIDATE_DONE
end

msys.registerModule("run_in_pool", mod)

--[[ dialogue
> EHLO client.example
< 550 trueabfalseno123true
> NOOP
< 250
logged later\t123
]]
