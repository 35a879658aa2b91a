require("msys.core")
require("msys.gauge_cache")
local mod, core = {}, msys.core

function mod:init()
  msys.gauge_cache.define("open", 100, 3600)
  return true
end

function mod:validate_mailfrom(str, ac, vctx)
  local key = vctx:get(core.VCTX_MESS, "mailfrom_domain")
  msys.gauge_cache.inc("open", key)
  if msys.gauge_cache.get("open", key) > 2 then
    msys.gauge_cache.dec("open", key)
    vctx:set_code(452, "4.7.1 " .. msys.gauge_cache.get("open", key) .. msys.gauge_cache.get("open", "none") ..
      tostring(msys.gauge_cache.remove_item("open", key)))
    return core.VALIDATE_DONE
  end
  return core.VALIDATE_CONT
end

msys.registerModule("gauge_cache", mod)

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
> MAIL FROM:<a@example.org>
< 452 4.7.1 20true
> MAIL FROM:<a@example.org>
< 250
]]
