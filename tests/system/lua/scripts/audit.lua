require("msys.core")
require("msys.audit")
local mod, core = {}, msys.core

function mod:validate_mailfrom(str, ac, vctx)
  local counts = msys.audit.connections("3600,1") .. " " .. msys.audit.receptions("3600,1", "/24") .. " " ..
    msys.audit.rejections("3600,1", { cidr = "192.0.2.0/24", startv = 0, endv = 0 }) .. " " ..
    msys.audit.inbound_session_count("192.0.2.0/24", "SMTP")
  if vctx:get(core.VCTX_MESS, "mailfrom_localpart") == "count" then
    vctx:set_code(550, "5.7.1 " .. counts)
    return core.VALIDATE_DONE
  end
  return core.VALIDATE_CONT
end

msys.registerModule("audit", mod)

--[[ dialogue
> EHLO client.example
< 250
> MAIL FROM:<count@example.org>
< 550 5.7.1 0 0 0 1
connect
> EHLO client.example
< 250
message a@example.org b@example.com
| Subject: x
|
| y
< 250
> MAIL FROM:<count@example.org>
< 550 5.7.1 1 1 1 2
]]
