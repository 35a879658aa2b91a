require("msys.core")
local mod, core = {}, msys.core

function mod:validate_ehlo(str, ac, vctx)
  vctx:set(core.VCTX_CONN, "tls_client_verified", "yes")
  return core.VALIDATE_CONT
end

msys.registerModule("vctx_set_tls", mod)

--[[ dialogue
> EHLO client.example
< 421
logged written by the TLS engine alone
closed
]]
