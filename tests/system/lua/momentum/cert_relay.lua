-- Verified, peer in the file, CN MX12.partner.example: foreign RCPT 250, also in the next message. Other CN, other network, unverified or
-- no TLS: 550 relaying denied; local recipients 250. The file is missing at load: the reload fails.
require("msys.core"); require("msys.cidr"); require("msys.pcre"); local mod, core = {}, msys.core
local partners = { "^mx\\d+\\.partner\\.example$", "^relay\\.supplier\\.example$" }
function mod:init()
  msys.cidr.define("partner_nets", { type = "rbldnsd", source = "/etc/mail/partner-nets.txt", value = "txt", default_value = "" }); return true
end
function mod:validate_mailfrom(str, ac, vctx)
  if vctx:get(core.VCTX_CONN, "tls_client_verified") ~= "yes" or msys.cidr.query("partner_nets") == "" then return core.VALIDATE_CONT end
  local cn = string.lower(vctx:get(core.VCTX_CONN, "tls_client_cert_subject_cn"))
  for _, pattern in ipairs(partners) do
    if msys.pcre.match(cn, pattern) then vctx:set(core.VCTX_CONN, "can_relay", "true"); print("relay opened for", cn); break end
  end
  return core.VALIDATE_CONT
end
msys.registerModule("cert_relay", mod)
