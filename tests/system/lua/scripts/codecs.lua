require("msys.core")
require("base64")
require("qp")
require("idn")
local mod, core = {}, msys.core

function mod:validate_ehlo(str, ac, vctx)
  vctx:set_code(550, "5.7.1 " .. base64.encode("hi") .. base64.decode("aGk=") .. qp.encode("a=b") .. qp.decode("a=3Db") ..
    " " .. idn.to_idn("bücher.example") .. " " .. tostring(idn.to_utf8("xn--bcher-kva.example") == "bücher.example"))
  return core.VALIDATE_DONE
end

msys.registerModule("codecs", mod)

--[[ dialogue
> EHLO client.example
< 550 aGk=hia=3Dba=b xn--bcher-kva.example true
]]
