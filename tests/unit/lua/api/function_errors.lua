-- Calls of host functions that are script errors, and a part of each error.  test_functions.py reads this.
vctx:set(1, 'tls_client_verified', 'yes')
--> written by the TLS engine alone

msg:context_set(2, 'tls', 'on')
--> written by the TLS engine alone

vctx:delete(1, 'tls')
--> written by the TLS engine alone

vctx:set(1, nil, 'x')
--> bad argument #2 to 'set' (string expected, got nil)

vctx:set(1, 'x', nil)
--> a string is expected, not a nil value

vctx:set(1, 'x', {})
--> a string is expected, not a table value

vctx:get(7, 'x')
--> a context is VCTX_CONN or VCTX_MESS

vctx:set(1, 'x', ('y'):rep(70000))
--> too long

for n = 1, 2000 do vctx:set(1, 'k' .. n, 'v') end
--> 1000 variables already

for n = 1, 20 do vctx:set(1, 'k' .. n, ('v'):rep(60000)) end
--> longer than 1048576 octets

ac:esmtp_capability_remove('STARTTLS')
--> at connect and ehlo, not at data_spool

ac:inbound_session_count('x')
--> does not appear to be an IPv4 or IPv6 network

ac:inbound_session_count('/24', 'HTTP')
--> there is no service 'HTTP'

msg:header('X', 'a\r\nBcc: x')
--> has a line end

msg:header('X', { 'a', 'b\n' })
--> has a line end

msg:header('X Y', 'a')
--> is not the name of a header field

msg:header('X', 'a', 'before')
--> replace, append or prepend

for n = 1, 500 do msg:header('X', 'a', 'append') end
--> more than 256 changes

msg:mailfrom('no address')
--> is not an address

msg:rcptto('a@example.com')
--> in validate_data_spool_each_rcpt only

msg:get_envelope2(1, msg)
--> fills strings of msys.core.string_new()

msg:reception_peer('host')
--> ip, port or all

vctx:recipient_list({})
--> at least one recipient

vctx:remove_recipient('a@example.com') vctx:remove_recipient('b@example.net')
--> at least one recipient

vctx:add_recipient('<>')
--> is not an address

msg:address_header('To', 'nickname')
--> 'nickname' is none of all,

msg:body('new')
--> scripts do not rewrite content

msg:mime(false)
--> msg:mime(true) only

msg:raw_match('(')
--> the pattern cannot be matched

msys.dnsLookup('a.example', 'SPF')
--> 'SPF' is none of A,

msys.sleep(1e9)
--> 0 to 300 seconds

msys.config('set', 'x', 1)
--> do not set it

msys.lock('x') msys.lock('x')
--> held already by this callout

msys.unlock('x')
--> not held by this callout

msys.cidr.define('x', { type = 'rbldnsd' })
--> is for init

msys.cidr.query('x')
--> is not defined

msys.audit_series.define('x', 'net', 60, 1)
--> 'net' is none of

msys.audit_series.count('x', 'k')
--> is not defined

msys.audit_series.define('x', 'string', 60, 1) msys.audit_series.add('x')
--> needs a key

msys.audit.connections('sixty')
--> is not a monitor

msys.gauge_cache.inc('x', 'k')
--> is not defined

msys.registerAuth('x', {})
--> is for init

json.encode({ [true] = 1 })
--> a key of JSON is a string

local t = {} t.t = t json.encode(t)
--> too deep

msg:binding('x')
--> triosmtp does not have msg:binding

msys.core.io_wrapper_open('/etc/passwd')
--> triosmtp does not have msys.core.io_wrapper_open
