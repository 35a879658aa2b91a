require("msys.core")
local mod, core = {}, msys.core

function mod:validate_data_spool(msg, ac, vctx)
  local same = msg.conn_id == ac.conn_id and string.sub(msg.id, 1, #msg.conn_id) == msg.conn_id and msg.batch_id == msg.id
  print("ids", same, msg.recv_from, msg.recv_via, msg.recv_method)
  return core.VALIDATE_CONT
end

msys.registerModule("message_ids", mod)

--[[ dialogue
> EHLO client.example
< 250
message a@example.org b@example.com
| Subject: x
|
| y
< 250
logged ids\ttrue\t192.0.2.1:1024\tmemory\tesmtp
]]
