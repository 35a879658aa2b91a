require("msys.core")
require("http.client")
require("json")
local mod, core = {}, msys.core

function mod:validate_rcptto(msg, str, ac, vctx)
  local request = http.client.new()
  request:set_timeout(5)
  request:set_header("X-Sender: " .. msg:mailfrom())
  local ok, err = request:do_request("POST", "{http}/check", json.encode({ rcpt = msg:rcptto() }))
  if !ok then
    vctx:set_code(451, "4.7.1 " .. err)
    return core.VALIDATE_DONE
  end
  local code, text = request:get_status()
  local value = request:get_headers()
  vctx:set_code(550, "5.7.1 " .. code .. " " .. text .. " " .. request:get_body() .. " " ..
    http.client.parse_headers(value)["x-reason"])
  return core.VALIDATE_DONE
end

msys.registerModule("http_client", mod)

--[[ dialogue
http 403 not you
> EHLO client.example
< 250
> MAIL FROM:<a@example.org>
< 250
> RCPT TO:<b@example.com>
< 550 5.7.1 403 Forbidden not you policy
requested POST /check a@example.org {"rcpt":"b@example.com"}
]]
