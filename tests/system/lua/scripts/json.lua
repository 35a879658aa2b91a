require("msys.core")
require("json")
require("msys.extended.message")
local mod, core = {}, msys.core

function mod:validate_data_spool(msg, ac, vctx)
  local value = json.decode(msg:header("X-Json")[1] or "{}")
  local nothing, code, text = json.decode("{")
  local made = json.new()
  made.list = { 1, 2 }
  vctx:set_code(550, "5.7.1 " .. tostring(value.a[2]) .. " " .. value.b .. " " .. tostring(nothing) .. type(code) .. " " ..
    json.encode(made) .. " " .. json.strerror(code))
  return core.VALIDATE_DONE
end

msys.registerModule("json", mod)

--[[ dialogue
> EHLO client.example
< 250
message a@example.org b@example.com
| X-Json: { "a": [1, true], "b": "x" }
|
| y
< 550 5.7.1 true x nilnumber {"list":[1,2]} malformed JSON
]]
