require("msys.core")
require("msys.extended.ac")
local mod, core = {}, msys.core

function mod:validate_connect(ac, vctx)
  local count = ac:inbound_session_count("/24", "SMTP")
  if count > 2 then
    vctx:disconnect(421, "4.7.0 " .. count .. " of " .. ac:inbound_session_count() .. " sessions from your network, " ..
      ac:inbound_session_count("10.0.0.0/8") .. " from ten")
    return core.VALIDATE_DONE
  end
  return core.VALIDATE_CONT
end

msys.registerModule("session_count", mod)

--[[ dialogue
< 220
connect 192.0.2.2
< 220
connect 10.0.0.1
< 220
connect 192.0.2.3
< 421 3 of 4 sessions from your network, 1 from ten
closed
]]
