require("msys.core")
local mod, core = {}, msys.core

require("msys.db")
require("curl")

function mod:validate_mailfrom(str, ac, vctx)
  if vctx:get(core.VCTX_MESS, "mailfrom_localpart") == "db" then msys.db.query("cache", "select 1", {}) end
  return core.VALIDATE_CONT
end

msys.registerModule("missing_module", mod)

--[[ dialogue
> EHLO client.example
< 250
> MAIL FROM:<a@example.org>
< 250
> RSET
< 250
> MAIL FROM:<db@example.org>
< 421
logged triosmtp does not have msys.db.query
closed
]]
