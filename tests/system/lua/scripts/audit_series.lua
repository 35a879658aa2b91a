require("msys.core")
require("msys.audit_series")
local mod, core = {}, msys.core

function mod:init()
  msys.audit_series.define("senders", "string", 3600, 2)
  msys.audit_series.define("peers", "cidr", 3600, 2)
  return true
end

function mod:validate_mailfrom(str, ac, vctx)
  local sender = vctx:get(core.VCTX_MESS, "mailfrom_string")
  msys.audit_series.add("senders", { key = sender, count = 2 })
  msys.audit_series.add("peers", ac)
  if msys.audit_series.count("senders", { key = sender, startv = 0, endv = 1 }) > 4 then
    vctx:set_code(452, "4.7.1 " .. msys.audit_series.count("senders", sender) .. " " .. msys.audit_series.count("peers"))
    msys.audit_series.remove_item("senders", sender)
    return core.VALIDATE_DONE
  end
  return core.VALIDATE_CONT
end

msys.registerModule("audit_series", mod)

--[[ dialogue
> EHLO client.example
< 250
> MAIL FROM:<a@example.org>
< 250
> RSET
< 250
> MAIL FROM:<a@example.org>
< 250
> RSET
< 250
> MAIL FROM:<b@example.org>
< 250
> RSET
< 250
> MAIL FROM:<a@example.org>
< 452 4.7.1 6 4
> MAIL FROM:<a@example.org>
< 250
]]
