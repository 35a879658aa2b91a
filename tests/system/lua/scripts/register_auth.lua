require("msys.core")
local mod, core, auth = {}, msys.core, {}

function auth:authenticate(filename, params, user, password)
  if filename == "users" and params.realm == "mail" and user == "joe" and password == "secret" then return core.EC_AUTH_OK end
  if user == "later" then return core.EC_AUTH_ERROR end
  if user == "broken" then error("no answer") end
  return core.EC_AUTH_FAIL
end

function auth:enumGroups(user) return { "staff" } end
function auth:queryGroups() return { "staff" } end

function mod:init()
  msys.registerAuth("ours", auth)
  return true
end

msys.registerModule("register_auth", mod)

--[[ dialogue
options SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "AUTH PLAIN" ) Allow_Plaintext_Auth = true AuthPlainParameters = [ uri = "ours://users" realm = "mail" ] Auth_Failure_Delay = 0.001
> EHLO client.example
lines AUTH PLAIN
auth joe guess
< 535 5.7.8
auth later x
< 454 4.7.0
connect
> EHLO client.example
< 250
auth broken x
< 454 4.7.0
auth joe secret
< 235 2.7.0
> MAIL FROM:<a@example.org>
< 250
> RCPT TO:<b@elsewhere.example>
< 250
]]
