require("msys.core")
require("msys.extended.message_routing")
local mod, core = {}, msys.core

function mod:validate_data_spool(msg, ac, vctx)
  local ok, text = pcall(msg.binding, msg, "marketing")
  vctx:set_code(550, "5.7.1 " .. tostring(ok) .. " " .. text)
  return core.VALIDATE_DONE
end

msys.registerModule("missing_method", mod)

--[[ dialogue
> EHLO client.example
< 250
message a@example.org b@example.com
| Subject: x
|
| y
< 550 5.7.1 false triosmtp does not have msg:binding
]]
