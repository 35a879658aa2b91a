-- bank.example: plaintext 530; TLS with no or a bad certificate 550, session goes on; verified 250. Other senders and <>: 250.
require("msys.core"); local mod, core = {}, msys.core
local strict = { ["bank.example"] = true, ["clearing.example"] = true }
function mod:validate_mailfrom(str, ac, vctx)
  local domain = string.lower(vctx:get(core.VCTX_MESS, "mailfrom_domain"))
  if not strict[domain] then return core.VALIDATE_CONT end
  if vctx:get(core.VCTX_CONN, "tls") ~= "on" then vctx:set_code(530, "5.7.0 " .. domain .. " is taken over TLS only")
  elseif vctx:get(core.VCTX_CONN, "tls_client_verified") != "yes" then vctx:set_code("550", "5.7.1 no verified certificate for " .. domain)
  else return core.VALIDATE_CONT end
  return core.VALIDATE_DONE
end
msys.registerModule("sender_cert", mod)
