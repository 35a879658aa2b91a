require("msys.core")
require("msys.extended.message")
local mod, core = {}, msys.core

function mod:validate_data(msg, ac, vctx)
  vctx:set_code(550, "5.7.1 " .. msg:reception_peer() .. " " .. msg:reception_peer("ip") .. " " .. msg:reception_peer("port") ..
    " " .. msg:listener_addr("all"))
  return core.VALIDATE_DONE
end

msys.registerModule("reception_peer", mod)

--[[ dialogue
> EHLO client.example
< 250
message a@example.org b@example.com
| Subject: x
|
| y
< 550 5.7.1 192.0.2.1:1024 192.0.2.1 1024 memory
]]
