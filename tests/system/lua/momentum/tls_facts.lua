-- Exactly one X-TLS-Facts, on top, however many the client sent; plaintext: all "none". A subject only if verified, with no CR, LF or quote of the peer's.
require("msys.core"); require("msys.extended.message"); local mod, CONN = {}, msys.core.ECMESS_CTX_CONN
local function fact(msg, key)
  local found, value = msg:context_exists_and_get(CONN, key)
  return found == 1 and (string.gsub(value, "[%c\"]", "?")) or "none"
end
function mod:validate_data_spool(msg, ac, vctx)
  local line = "tls=" .. fact(msg, "tls") .. " cipher=" .. fact(msg, "tls_cipher") .. " bits=" .. fact(msg, "tls_cipher_usebits")
  if msg:context_get(CONN, "tls_client_verified") == "yes" then line = line .. ' subject="' .. fact(msg, "tls_client_cert_subject") .. '"' end
  msg:header("X-TLS-Facts", "")
  msg:header("X-TLS-Facts", line, "prepend")
  return msys.core.VALIDATE_CONT
end
msys.registerModule("tls_facts", mod)
