require("msys.core")
require("msys.cidr")
local mod, core = {}, msys.core

function mod:init()
  msys.cidr.define("nets", { type = "rbldnsd", source = "nets.txt", value = "a", default_value = "no", interpolate = true })
  return true
end

function mod:validate_ehlo(str, ac, vctx)
  vctx:set_code(550, "5.7.1 " .. tostring(msys.cidr.reload("nets")) .. " " .. msys.cidr.query("nets"))
  return core.VALIDATE_DONE
end

msys.registerModule("cidr_reload", mod)

--[[ dialogue
file nets.txt
| 192.0.2.0/24:127.0.0.5:text
> EHLO client.example
< 550 true 127.0.0.5
file nets.txt
| 192.0.2.0/24:127.0.0.6:text
> EHLO client.example
< 550 true 127.0.0.6
file nets.txt
| malformed
> EHLO client.example
< 550 false 127.0.0.6
logged keeps what it had
]]
