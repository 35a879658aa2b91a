-- RCPT by RCPT: intra needs TLS (else 530), hr a verified certificate (plaintext 530, unverified 550), the rest nothing; refused ones do not
-- stop others. With hr and a public recipient in one message only hr's copy has the header, and no copy has the client's own.
require("msys.core"); require("msys.extended.message"); local mod, core = {}, msys.core
local needs = { ["intra.example.net"] = "tls", ["hr.example.net"] = "verified" }
function mod:validate_rcptto(msg, str, ac, vctx)
  local need = needs[string.lower(vctx:get(core.VCTX_MESS, "rcptto_domain"))]
  local tls, verified = vctx:get(core.VCTX_CONN, "tls") == "on", vctx:get(core.VCTX_CONN, "tls_client_verified") == "yes"
  if !need or verified or (need == "tls" and tls) then return core.VALIDATE_CONT end
  vctx:set_code(tls and 550 or 530, tls and "5.7.1 needs a verified certificate" or "5.7.0 needs STARTTLS first")
  return core.VALIDATE_DONE
end
function mod:validate_data_spool_each_rcpt(msg, ac, vctx)
  local domain = string.match(string.lower(msg:rcptto()), "@(.+)$") or ""
  msg:header("X-Client-CN", needs[domain] == "verified" and vctx:get(core.VCTX_CONN, "tls_client_cert_subject_cn") or "")
  return core.VALIDATE_CONT
end
msys.registerModule("rcpt_rules", mod)
