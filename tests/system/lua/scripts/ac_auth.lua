require("msys.core")
local mod, core = {}, msys.core

function mod:ac_auth_perform_auth(username, password, ac, response)
  if tostring(username) == "joe" and tostring(password) == "secret" then return core.EC_AUTH_OK end
  local text = "ask at the desk"
  response:write(text, #text)
  return core.EC_AUTH_FAIL
end

msys.registerModule("ac_auth", mod)

--[[ dialogue
options SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "AUTH PLAIN" ) Allow_Plaintext_Auth = true AuthPlainParameters = [ uri = "ac_auth://" ] Auth_Failure_Delay = 0.001
> EHLO client.example
lines AUTH PLAIN
auth joe guess
< 535 5.7.8 ask at the desk
auth joe secret
< 235 2.7.0
]]
