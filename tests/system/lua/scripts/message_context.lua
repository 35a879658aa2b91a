require("msys.core")
require("msys.extended.message")
local mod, core = {}, msys.core

function mod:validate_rcptto(msg, str, ac, vctx)
  msg:context_set(core.ECMESS_CTX_MESS, "count", (tonumber(msg:context_get(core.ECMESS_CTX_MESS, "count")) or 0) + 1)
  core.ec_message_context_set(msg, core.ECMESS_CTX_CONN, "last", msg:rcptto())
  return core.VALIDATE_CONT
end

function mod:validate_data_spool(msg, ac, vctx)
  local found, count = msg:context_exists_and_get(core.ECMESS_CTX_MESS, "count")
  local none, nothing = msg:context_exists_and_get(core.ECMESS_CTX_MESS, "none")
  local last = core.ec_message_context_get(msg, core.VCTX_CONN, "last")
  local domain = msg:context_get(core.ECMESS_CTX_MESS, core.STANDARD_KEY_MAILFROM_DOMAIN)
  local text = found .. count .. none .. tostring(nothing) .. " " .. last .. " " .. domain
  text = text .. msg:context_exists(core.ECMESS_CTX_MESS, "none") .. msg:context_delete(core.ECMESS_CTX_MESS, "count")
  vctx:set_code(550, "5.7.1 " .. text)
  return core.VALIDATE_DONE
end

msys.registerModule("message_context", mod)

--[[ dialogue
> EHLO client.example
< 250
message a@example.org b@example.com c@example.com
| Subject: x
|
| y
< 550 5.7.1 120nil c@example.com example.org01
]]
