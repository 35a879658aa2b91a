require("msys.core")
local mod, core = {}, msys.core

function mod:validate_data_spool(msg, ac, vctx)
  if msg:header("X-Relay")[1] then vctx:set(core.VCTX_CONN, "can_relay", "true") end
  vctx:recipient_list({ "someone@elsewhere.example" })
  return core.VALIDATE_CONT
end

msys.registerModule("recipient_relay", mod)

--[[ dialogue
> EHLO client.example
< 250
message a@example.org b@example.com
| X-Relay: yes
|
| y
< 250
recipients someone@elsewhere.example
connect
> EHLO client.example
< 250
message a@example.org b@example.com
| Subject: x
|
| y
< 421
logged its domain is not in Relay_Domains
]]
