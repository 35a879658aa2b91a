require("msys.core")
local mod, core = {}, msys.core

function mod:validate_ehlo(str, ac, vctx)
  local text, err = msys.readfile("motd.txt")
  local none, missing = msys.readfile("missing.txt")
  local secret, refused = msys.readfile("/etc/hostname")
  vctx:set_code(550, "5.7.1 " .. text .. " " .. tostring(none) .. " " .. missing .. " " .. tostring(secret))
  return core.VALIDATE_DONE
end

msys.registerModule("readfile", mod)

--[[ dialogue
file motd.txt
| hello
> EHLO client.example
< 550 hello nil No such file or directory nil
]]
