require("msys.core")
require("msys.extended.vctx")
local mod, core = {}, msys.core

function mod:validate_mailfrom(str, ac, vctx)
  local ehlo, domain = vctx:get(core.VCTX_CONN, "ehlo_domain"), vctx:get(core.VCTX_MESS, "mailfrom_domain")
  if domain != "" and ehlo != "mail." .. domain then
    vctx:set_code(550, "5.7.1 " .. ehlo .. " does not send for " .. domain .. vctx:get(core.VCTX_CONN, "none"))
    return core.VALIDATE_DONE
  end
  return core.VALIDATE_CONT
end

msys.registerModule("vctx_get", mod)

--[[ dialogue
> EHLO mail.example.org
< 250
> MAIL FROM:<a@example.org>
< 250
> RSET
< 250
> MAIL FROM:<a@example.net>
< 550 5.7.1 mail.example.org does not send for example.net
> MAIL FROM:<>
< 250
]]
