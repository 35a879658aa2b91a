require("msys.core")
require("msys.cidr")
local mod, core = {}, msys.core

function mod:init()
  msys.cidr.define("partners", { type = "rbldnsd", source = "{folder}/partners.txt", value = "txt", default_value = "none" })
  msys.cidr.define("nothing", { type = "empty" })
  return true
end

function mod:validate_connect(ac, vctx)
  vctx:set_code(554, "5.7.1 " .. msys.cidr.query("partners") .. " " .. msys.cidr.query("partners", "10.9.9.9") ..
    " " .. tostring(msys.cidr.query("nothing")))
  return core.VALIDATE_DONE
end

msys.registerModule("cidr", mod)

--[[ dialogue
file partners.txt
| 10.0.0.0/8:ten
| 192.0.2.0/24:documentation
| 192.0.2.66:special
| !192.0.2.99
| 2001:db8::/32 :six
< 554 documentation ten nil
closed
connect 192.0.2.66
< 554 special ten nil
closed
connect 192.0.2.99
< 554 none ten nil
closed
connect 2001:db8::1
< 554 six ten nil
closed
]]
