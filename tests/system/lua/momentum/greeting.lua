-- A bare or our own name: 550 after 2 s, twice; the third time 421 and closed. STARTTLS does not reset the count. Literals, full names: 250.
-- A Peer with Context = [ old_scanner = "yes" ]: no STARTTLS in the EHLO answer, and the command is refused.
require("msys.core"); require("msys.extended.ac"); require("msys.extended.vctx"); local mod, core = {}, msys.core
function mod:validate_connect(ac, vctx)
  if vctx:get(core.VCTX_CONN, "old_scanner") == "yes" then ac:esmtp_capability_remove("STARTTLS") end
  return core.VALIDATE_CONT
end
function mod:validate_ehlo(str, ac, vctx)
  local name = string.lower(vctx:get(core.VCTX_CONN, "ehlo_domain"))
  local full = string.find(name, ".", 1, true) or string.sub(name, 1, 1) == "["
  if full and name ~= "mx.example.net" then return core.VALIDATE_CONT end
  self.bad = (self.bad or 0) + 1
  if self.bad > 2 then vctx:disconnect(421, "4.7.0 too many wrong greetings")
  else vctx:tarpit(2); vctx:set_code(550, "5.7.1 greet with your own full name") end
  return core.VALIDATE_DONE
end
msys.registerModule("greeting", mod)
