require("msys.core")
local mod, core = {}, msys.core

function mod:validate_connect(ac, vctx)
  vctx:set_code(554, "5.7.1 " .. ac.remote_addr .. " " .. ac.local_addr .. " " .. tostring(#ac.conn_id > 5))
  return core.VALIDATE_DONE
end

msys.registerModule("remote_addr", mod)

--[[ dialogue
< 554 192.0.2.1:1024 memory true
closed
connect 2001:db8::7
< 554 2001:db8::7.1024 memory true
closed
]]
