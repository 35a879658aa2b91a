require("msys.core")
require("msys.extended.ac")
local mod, core = {}, msys.core

function mod:validate_connect(ac, vctx)
  ac:esmtp_capability_remove("SIZE")
  ac:esmtp_capability_add("X-OURS 1")
  return core.VALIDATE_CONT
end

function mod:validate_ehlo(str, ac, vctx)
  if vctx:get(core.VCTX_CONN, "ehlo_domain") == "old.example" then ac:esmtp_capability_remove("8BITMIME") end
  return core.VALIDATE_CONT
end

msys.registerModule("capabilities", mod)

--[[ dialogue
> EHLO client.example
lines X-OURS 1 | 8BITMIME
lacks SIZE
> MAIL FROM:<a@example.org> SIZE=100
< 555
> EHLO old.example
lacks 8BITMIME
> MAIL FROM:<a@example.org> BODY=8BITMIME
< 555
]]
