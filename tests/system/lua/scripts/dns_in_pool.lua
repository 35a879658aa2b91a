require("msys.core");
require("msys.threadpool");
require("msys.extended.message");

local mod = {};

function mod:validate_rcptto(msg, str, ac, vctx)
  local domain = msg:context_get(msys.core.ECMESS_CTX_MESS, "rcptto_domain");
  local status, result = msys.runInPool("DNS", function()
    local results, err = msys.dnsLookup(domain, "MX", { server = "{dns}" });
    if !results and err == "NXDOMAIN" then return false; end
    return #results;
  end);
  local names = "";
  for word in string.gmatch("a b", "%a") do
    names = names .. string.gsub(word, "(%a)", function(c) return (msys.dnsLookup(c .. ".example", "A", { server = "{dns}" }) or { "?" })[1]; end);
  end
  table.sort({ 2, 1 }, function(a, b) msys.sleep(0); return a < b; end);
  vctx:set_code(550, "5.7.1 " .. tostring(status) .. " " .. tostring(result) .. " " .. names);
  return msys.core.VALIDATE_DONE;
end

msys.registerModule("dns_in_pool", mod);

--[[ dialogue
dns
| example.com MX 10 mx.example.com.
| a.example A 192.0.2.1
| x.example.com A 192.0.2.2
> EHLO client.example
< 250
> MAIL FROM:<a@example.org>
< 250
> RCPT TO:<b@example.com>
< 550 5.7.1 true 1 192.0.2.1?
> RCPT TO:<b@none.example.com>
< 550 5.7.1 true false 192.0.2.1?
]]
