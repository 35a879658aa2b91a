-- Calls of host functions, and their results as Dumper writes them.  test_functions.py reads this.
return vctx:get(1, 'ehlo_domain'), vctx:get(1, 'none')
--> "client.example" | ""

vctx:set(2, 'n', 5) vctx:set(2, 't', true) return vctx:get(2, 'n'), vctx:get(2, 't')
--> "5" | "true"

return vctx:exists(1, 'ehlo_domain'), vctx:exists(1, 'none')
--> 1 | 0

return vctx:exists_and_get(1, 'ehlo_domain')
--> 1 | "client.example"

return select('#', vctx:exists_and_get(1, 'none'))
--> 2

vctx:set(1, 'k', 'v') return vctx:delete(1, 'k'), vctx:delete(1, 'k'), vctx:exists(1, 'k')
--> 1 | 0 | 0

return msys.core.VCTX_CONN == msys.core.ECMESS_CTX_CONN, msys.core.VCTX_MESS == msys.core.ECMESS_CTX_MESS
--> true | true

msg:context_set(msys.core.ECMESS_CTX_MESS, 'k', 'v') return vctx:get(msys.core.VCTX_MESS, 'k')
--> "v"

return msg:context_get(2, msys.core.STANDARD_KEY_MAILFROM_DOMAIN)
--> "example.org"

return msg:context_exists(2, 'none'), msg:context_exists_and_get(2, 'mailfrom_domain')
--> 0 | 1 | "example.org"

msys.core.ec_message_context_set(msg, 2, 'k', 'v') return msys.core.ec_message_context_get(msg, 2, 'k')
--> "v"

msg:context_set(2, 'k', 'v') return msg:context_delete(2, 'k')
--> 1

return ac.remote_addr, ac.local_addr, ac.conn_id
--> "192.0.2.7:5000" | "198.51.100.1:25" | "ABC"

return ac.protocol == msys.core.P_ESMTP
--> true

return msg:mailfrom(), msg:rcptto()
--> "joerg@example.org" | ""

return msg:mailfrom('new@example.net'), msg:mailfrom(), msg:mailfrom('')
--> "new@example.net" | "new@example.net" | ""

return msg.id, msg.batch_id, msg.conn_id
--> "ABC-1" | "ABC-1" | "ABC"

return msg.recv_from, msg.recv_via, msg.recv_method
--> "192.0.2.7:5000" | "198.51.100.1:25" | "esmtp"

return msg:reception_peer(), msg:reception_peer('ip'), msg:reception_peer('port')
--> "192.0.2.7:5000" | "192.0.2.7" | "5000"

return msg:listener_addr('all'), msg:listener_addr('ip')
--> "198.51.100.1:25" | "198.51.100.1"

local a, b = msys.core.string_new(), msys.core.string_new()
msg:get_envelope2(msys.core.EC_MSG_ENV_FROM, a, b)
return a.buffer, b.buffer
--> "joerg" | "example.org"

local a = msys.core.string_new()
msg:get_envelope2(msys.core.EC_MSG_ENV_FROM + msys.core.EC_MSG_ENV_COMPLETE, a)
return a.buffer
--> "joerg@example.org"

local list = vctx:recipient_list() return list[0], list[1], list[2], #list
--> "" | "a@example.com" | "b@example.net" | 2

vctx:add_recipient('c@example.com') vctx:add_recipient('a@example.com') return #vctx:recipient_list()
--> 3

return vctx:remove_recipient('a@example.com'), vctx:remove_recipient('none@example.com')
--> true | false

return vctx:recipient_list({ 'x@example.com', 'a@example.com' })[1], vctx:recipient_list('y@example.com')[1]
--> "x@example.com" | "y@example.com"

return msg:header('subject')[1]:gsub(' ', '_')
--> "one__two" | 2

return #msg:header('X-Twice'), #msg:header('none')
--> 2 | 0

return msg:header('X-New', 'é'), msg:header('X-New')[1] == 'é', msg:raw():find('X%-New: =%?UTF%-8%?B') ~= nil
--> true | true | true

msg:header('X-Twice', 'z') return msg:raw():match('X%-Twice: (.)\r\n\r\n'), #msg:header('X-Twice')
--> "z" | 1

msg:header('X-Twice', '0', 'prepend') return msg:raw():sub(1, 10), #msg:header('X-Twice')
--> "X-Twice:0" | 3

msg:header('X-Twice', { '3', '4' }, 'append') return table.concat(msg:header('x-twice'))
--> "1234"

msg:header('X-Twice', { 'a', 'b' }, 'prepend') return table.concat(msg:header('x-twice'))
--> "ab12"

msg:header('X-Twice', '') return #msg:header('X-Twice')
--> 0

return msg:address_header('To', 'domain')[2], #msg:address_header('To'), msg:address_header('From', 'detail')[1]
--> "example.net" | 2 | "list"

return msg:get_message_size() > 100, msg:body(), msg:text() == msg:body()
--> true | "hellobody\13\" | true

return msg:body_match('h(el)lo')[1], msg:body_match('Subject')
--> "el" | false

return msg:raw_match('Subject: (?P<s>.*)').s, msg:text_match('body')[0]
--> "one\13" | "body"

local part = msg:mime(true) return part.thread == nil, part:content_type()
--> true | "text/plain" | "us-ascii" | "7bit" | false | ""

return msg:mime(true):header('x-twice')[2]
--> "2"

return msys.expandMacro('%{vctx_conn:ehlo_domain} %{i} %{spfv1:s}')
--> "client.example192.0.2.7joerg@example.org"

return msys.asyncOk(), msys.type(msg), msys.type('x'), msys.type(nil)
--> true | "msg" | "string" | "nil"

return msys.core.get_now_ts() > 1e9, msys.config('get', 'none')
--> true

msys.sleep(0) return 1
--> 1

return #msys.parseRFC2822Addresses('a@b, c@d'), msys.parseRFC2822Addresses('a+x@b', 'user')[1]
--> 2 | "a"

local m = msys.pcre.match('abc', '(?P<n>b)(c)') return m[0], m[1], m.n, m[2]
--> "bc" | "b" | "b" | "c"

return select('#', msys.pcre.match('abc', 'x'))
--> 1

local m, e, n = msys.pcre.match('a', '(') return m == nil, e:sub(1, 7), n
--> true | "missing" | 114

return msys.pcre.replace('a1b2', '([0-9])', '<$1>'), #msys.pcre.split('a,b', ','), #msys.pcre.split('', ',')
--> "a<1>b<2>" | 2 | 0

msys.lock('x') msys.unlock('x') local m = thread.mutex() m:lock() return m:trylock(), m:unlock()
--> false

return msys.runInPool('IO', function() return 1, 'x' end)
--> true | 1 | "x"

local ok, e = msys.runInPool('IO', function() error('no', 0) end) return ok, e
--> false | "no"

local n = 0 msys.runInPool('IO', function() n = n + 1 end, function() n = n * 5 end) return n
--> 5

msys.audit_series.define('s', 'string', 60, 2)
msys.audit_series.add('s', 'k')
msys.audit_series.add('s', { key = 'k', count = 4 })
return msys.audit_series.count('s', 'k'), msys.audit_series.count('s', { key = 'k', startv = 0, endv = 1 }), msys.audit_series.remove_item('s', 'k'), msys.audit_series.count('s', 'k')
--> 5 | 5 | true | 0

msys.audit_series.define('c', 'cidr', 60, 1)
msys.audit_series.add('c')
msys.audit_series.add('c', ac)
msys.audit_series.add('c', '192.0.2.7')
return msys.audit_series.count('c')
--> 3

return msys.audit.connections('60,1'), msys.audit.receptions('60,1', '/24'), msys.audit.rejections('60,1', { cidr = '10.0.0.0/8' })
--> 0 | 0 | 0

msys.gauge_cache.define('g', 10, 60)
msys.gauge_cache.inc('g', 'k')
msys.gauge_cache.inc('g', 'k', 4)
msys.gauge_cache.dec('g', 'k')
return msys.gauge_cache.get('g', 'k'), msys.gauge_cache.get('g', 'none'), msys.gauge_cache.remove_item('g', 'k'), msys.gauge_cache.get('g', 'k')
--> 4 | 0 | true | 0

local c = counter.open('a', counter.STRICT)
counter.inc(c)
c:add(4)
return counter.read(c), c:read(), counter.read('a'), counter.reset(c), counter.read(c), counter.unlink(c)
--> 5 | 5 | 5 | nil | 0 | true

return ac:inbound_session_count(), ac:inbound_session_count('/24', 'SMTP'), msys.audit.inbound_session_count('10.0.0.0/8', 'SMTP'), ac:inbound_session_count('10.0.0.1')
--> 6 | 3 | 3 | 2

return base64.encode('hi'), base64.decode('aGk='), qp.encode('='), qp.decode('=3D')
--> "aGk=" | "hi" | "=3D" | "="

return idn.to_idn('bücher.example'), idn.to_utf8('xn--bcher-kva.example') == 'bücher.example'
--> "xn--bcher-kva.example" | true

local v = json.decode('{"a":[1,true,null,"x"]}')
return v.a[1], v.a[2], v.a[4], json.encode({ 1, { k = 'v' } })
--> 1 | true | "x" | "[1,{\"k\":\"v\"}]"

local v, code, text = json.decode('{')
return v == nil, json.strerror(code), #text > 5, next(json.new()) == nil
--> true | "malformedJSON" | true | true

return json.decode('123456789012345678901234567890') == 123456789012345678901234567890, #json.decode('"\\ud800"')
--> true | 1

return msys.parseRFC2822Addresses('\255@b')[1] == '\239\191\189@b'
--> true
