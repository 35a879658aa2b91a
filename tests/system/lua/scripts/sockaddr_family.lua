require("msys.core")
require("msys.extended.ac")
local mod, core = {}, msys.core

-- As Momentum's training policy divides an address from its port.
local function ip_of(sockaddr)
  local family, text = core.ec_sockaddr_family(sockaddr), tostring(sockaddr)
  local separator = family == core.AF_INET and ":" or family == core.AF_INET6 and "%."
  return string.sub(text, 1, string.find(text, separator) - 1)
end

function mod:core_validate_accept(ac, vctx)
  vctx:set_code(554, "5.7.1 " .. ip_of(ac.remote_addr) .. " " .. ac:pbp_inbound_session_count_service("SMTP", "/32") ..
    ac:pbp_inbound_session_count_service("SMTP", "/0") .. core.ec_sockaddr_family("unix"))
  return core.VALIDATE_DONE
end

msys.registerModule("sockaddr_family", mod)

--[[ dialogue
< 554 192.0.2.1 110
closed
connect 2001:db8::7
< 554 2001:db8::7 110
closed
]]
