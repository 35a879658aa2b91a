require("msys.core")
local mod, core = {}, msys.core

function mod:validate_rcptto(msg, str, ac, vctx)
  vctx:set_code(550, "5.7.1 " .. msys.expandMacro("%{i} %{vctx_conn:ehlo_domain} %{vctx_mess:rcptto_localpart} %{spfv1:s} %{spfv1:ir}"))
  return core.VALIDATE_DONE
end

msys.registerModule("expand_macro", mod)

--[[ dialogue
> EHLO client.example
< 250
> MAIL FROM:<a@example.org>
< 250
> RCPT TO:<ann@example.com>
< 550 5.7.1 192.0.2.1 client.example ann a@example.org 1.2.0.192
]]
