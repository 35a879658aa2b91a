require("msys.core")
require("msys.dumper")
local mod, core = {}, msys.core

function mod:init()
  print("async", msys.asyncOk())
  return true
end

function mod:validate_ehlo(str, ac, vctx)
  local value, text = msys.config("get", "Banner_Hostname")
  msys.log(core.LOG_WARNING, "logged by level")
  print("now", core.get_now_ts() > 1.5e9, msys.asyncOk(), msys.type(str) ~= "", msys.type({}))
  print("config", value, text)
  print("dumper", msys.dumper.Dumper({ 1, a = "b" }))
  return core.VALIDATE_CONT
end

msys.registerModule("small", mod)

--[[ dialogue
> EHLO client.example
< 250
logged async\tfalse
logged logged by level
logged now\ttrue\ttrue\ttrue\ttable
logged config\tmx.example.com\tmx.example.com
logged a = "b"
]]
