require("msys.core")
local mod, core = {}, msys.core

function mod:validate_mailfrom(str, ac, vctx)
  local options = { server = "{dns}" }
  local domain = vctx:get(core.VCTX_MESS, "mailfrom_domain")
  local hosts, err = msys.dnsLookup(domain, "mx", options)
  if !hosts and err == "NXDOMAIN" then
    vctx:set_code(550, "5.1.8 " .. domain .. " does not exist")
  elseif !hosts then
    vctx:set_code(451, "4.4.3 " .. err)
  else
    local first = msys.dnsLookup(domain, "MX", { server = "{dns}", priority = true })[1]
    local texts = msys.dnsLookup("_dmarc." .. domain, "txt", options)
    vctx:set_code(250, "2.1.0 " .. hosts[1] .. " " .. first[1] .. " " .. texts[1] .. " " .. msys.dnsLookup(hosts[1], nil, options)[1])
  end
  return core.VALIDATE_DONE
end

msys.registerModule("dns_lookup", mod)

--[[ dialogue
dns
| good.example MX 20 b.good.example.
| good.example MX 10 a.good.example.
| a.good.example A 192.0.2.25
| _dmarc.good.example TXT "v=DMARC1; " "p=none"
> EHLO client.example
< 250
> MAIL FROM:<a@none.example>
< 550 5.1.8 none.example does not exist
> MAIL FROM:<a@fails.example>
< 451 4.4.3 SERVFAIL
> MAIL FROM:<a@good.example>
< 250 2.1.0 a.good.example 10 v=DMARC1; p=none 192.0.2.25
]]
