"""The host functions, each called from Lua with a session and a message."""

import re
from ipaddress import ip_address
from pathlib import Path

import pytest
import trio
from dns_server import dns_server
from lua_scripts import Script
from script_callout import CalloutStub, EngineStub, callout_with_message

from triosmtp.lua.api import TABLES
from triosmtp.lua.api.content_functions import MAX_CONTENT
from triosmtp.lua.api.open_sessions import OpenSessions
from triosmtp.lua.api.resources import Resources
from triosmtp.lua.host import HostObject
from triosmtp.lua.state import Failure
from triosmtp.smtp import Address
from triosmtp.variables import TLSInfo


class Handle(HostObject):
    """``msg``, ``vctx`` or ``ac``."""

    def __init__(self, name: str) -> None:
        self.lua_class = name


def _with_sessions(sessions: OpenSessions) -> None:
    peers = ("192.0.2.7", "192.0.2.9", "192.0.2.9", "10.0.0.1", "10.0.0.1", "10.9.0.1")
    sessions.begin((str(number), ip_address(peer)) for number, peer in enumerate(peers))


async def result(chunk: str, callout: CalloutStub | None = None) -> str:
    """Run a chunk, and return what Dumper makes of its results, without spaces."""
    script = Script(*TABLES)
    body = (
        f"local msg, vctx, ac = ... local function f() {chunk} end return (msys.dumper.Dumper {{ f() }}:gsub('%s', ''))"
    )
    handles = (Handle("msg"), Handle("vctx"), Handle("ac"))
    found = await script.run(body.encode(), *handles, current=callout or callout_with_message())
    text: str = found.decode()
    return text.removeprefix("return")


def calls_in(name: str) -> list[tuple[str, str]]:
    """Return the chunks of a file, each with what stands behind its arrow."""
    text = Path(__file__).with_name(name).read_text("utf-8").partition("\n")[2]
    return [(chunk.strip(), expected) for chunk, expected in re.findall(r"(.+?)\n--> ([^\n]*)\n", text, re.DOTALL)]


def listed(*values: str) -> str:
    return "{" + "".join(f"[{n}]={value}," for n, value in enumerate(values, 1) if value != "nil") + "}"


@pytest.mark.parametrize(("chunk", "values"), calls_in("function_results.lua"))
async def test_a_function_returns(chunk: str, values: str) -> None:
    engine = EngineStub(Resources(watch=_with_sessions))
    found = await result(chunk, callout_with_message(engine=engine))
    assert found == listed(*values.split(" | "))


@pytest.mark.parametrize(("chunk", "error"), calls_in("function_errors.lua"))
async def test_a_mistake_is_a_script_error(chunk: str, error: str) -> None:
    with pytest.raises(Failure) as caught:
        await result(chunk)
    assert error in caught.value.text
    assert "script.lua:" in caught.value.text


@pytest.mark.parametrize(
    ("verified", "found"), [(True, '{[1]=1,[2]="yes",[3]="yes",}'), (False, '{[1]=0,[2]="",[3]="",}')]
)
async def test_a_certificate_that_is_not_verified_is_absent(verified: bool, found: str) -> None:
    callout = callout_with_message()
    assert callout.session is not None
    tls = TLSInfo(protocol="TLSv1.3", cipher="x", cipher_algbits=256, cipher_usebits=256, verified=verified)
    callout.session.variables.record(tls.variables())
    key = "'tls_client_verified'"
    macro = "msys.expandMacro('%{vctx_conn:tls_client_verified}')"
    chunk = f"return vctx:exists(1, {key}), msg:context_get(1, {key}), {macro}"
    assert await result(chunk, callout) == found


async def test_before_the_body_there_are_contexts_and_the_envelope_only() -> None:
    callout = callout_with_message(message=None, phase="rcptto", method="validate_rcptto")
    assert (
        await result("return #msg:header('Subject'), #msg:address_header('To'), msg.id", callout)
        == '{[1]=0,[2]=0,[3]="ABC",}'
    )
    for chunk in ("msg:header('X', '1')", "msg:body()", "msg:get_message_size()", "msg:mime(true)"):
        with pytest.raises(Failure, match="not there before its body has arrived"):
            await result(chunk, callout)
    with pytest.raises(Failure, match="is changed when the body has arrived"):
        await result("vctx:add_recipient('x@example.com')", callout)


async def test_without_a_session_there_are_no_contexts() -> None:
    callout = CalloutStub(phase="init", method="init")
    for chunk in ("vctx:get(1, 'x')", "return ac.remote_addr", "msys.expandMacro('%{i}')"):
        with pytest.raises(Failure, match="there is no session here"):
            await result(chunk, callout)
    assert await result("return msys.asyncOk()", callout) == "{[1]=false,}"


async def test_a_recipient_and_its_header_are_changed_for_its_own_copy() -> None:
    callout = callout_with_message(method="validate_data_spool_each_rcpt")
    assert callout.message is not None
    recipients = callout.message.envelope.recipients
    callout.recipient = recipients[0]
    chunk = "msg:header('X-Own', '1') msg:rcptto('new@example.com') return msg:rcptto(), msg:header('X-Own')[1]"
    assert await result(chunk, callout) == '{[1]="new@example.com",[2]="1",}'
    assert [str(each) for each in recipients] == ["new@example.com", "b@example.net"]
    assert callout.message.edits_of(recipients[0])
    assert not callout.message.edits_of(recipients[1])
    assert not callout.edits
    with pytest.raises(Failure, match="the list of recipients is final"):
        await result("vctx:add_recipient('x@example.com')", callout)


async def test_a_recipient_that_may_not_be_added_is_an_error() -> None:
    async def judge(_session: object, address: Address) -> str:
        return "" if address.domain == "example.com" else "no relaying"

    engine = EngineStub(Resources(judge=judge))
    callout = callout_with_message(engine=engine)
    for chunk in ("vctx:add_recipient('x@elsewhere.example')", "vctx:recipient_list('x@elsewhere.example')"):
        with pytest.raises(Failure, match="no relaying"):
            await result(chunk, callout)
    assert await result("return vctx:add_recipient('x@example.com')", callout) == "{[1]=true,}"


async def test_large_content_is_read_up_to_its_limit() -> None:
    data = b"Subject: x\r\n\r\n" + b"a" * (MAX_CONTENT + 1000) + b"needle"
    callout = callout_with_message(data)
    assert await result("return #msg:raw(), msg:body_match('needle')", callout) == f"{{[1]={MAX_CONTENT},[2]=false,}}"
    assert await result("return msg:raw_match('a+$')[0]:sub(1, 2)", callout) == '{[1]="aa",}'


async def test_a_pattern_that_needs_a_thread_goes_on_there() -> None:
    # More steps than the budget of the event loop has, fewer than that of a thread.
    found = "msys.pcre.match(('a'):rep(17) .. 'b', '^(a|a)*c') == nil"
    chunk = f"return {found}, (select(3, msys.pcre.match(('a'):rep(300) .. '!', '(a|aa)+$')))"
    assert await result(chunk) == "{[1]=true,[2]=-47,}"


async def test_dns() -> None:
    records = {("a.example", "MX"): ["20 b.example.", "10 c.example."], ("a.example", "A"): ["192.0.2.1"]}
    async with dns_server(records) as server:
        option = f"{{ server = '{server.text}' }}"
        pairs = option.replace("{ ", "{ priority = true, ")
        chunk = f"""
          local a, mx, first = msys.dnsLookup('a.example', nil, {option}), msys.dnsLookup('a.example', 'mx', {option}),
            msys.dnsLookup('a.example', 'MX', {pairs})[1]
          local none, code = msys.dnsLookup('none.example', 'A', {option})
          return a[1], mx[1], #mx, first[1], first[2], none == nil, code
        """
        found = await result(chunk)
    assert found == listed('"192.0.2.1"', '"c.example"', "2", "10", '"c.example"', "true", '"NXDOMAIN"')


async def test_files_of_the_folders_are_read(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "list.txt").write_text("one")
    (tmp_path / "secret").write_text("two")
    (tmp_path / "scripts" / "link").symlink_to(tmp_path / "secret")
    engine = EngineStub(Resources(folders=(tmp_path / "scripts",)))
    for path, found in (
        ("list.txt", '{[1]="one",}'),
        (f"{tmp_path}/scripts/list.txt", '{[1]="one",}'),
        ("../secret", "notinafolderthatscriptsmayread"),
        ("link", "notinafolderthatscriptsmayread"),
        (f"{tmp_path}/secret", "notinafolderthatscriptsmayread"),
        ("none.txt", "Nosuchfileordirectory"),
        ("/dev/zero", "notinafolderthatscriptsmayread"),
        (".", "Isadirectory"),
    ):
        text = await result(f"return msys.readfile('{path}')", callout_with_message(engine=engine))
        assert found in text, path
        assert "two" not in text


async def test_cidr_maps_are_read_in_init_and_again_when_they_are_due(tmp_path: Path) -> None:
    (tmp_path / "nets").write_text("192.0.2.0/24:first\n")
    engine = EngineStub(Resources(folders=(tmp_path,)))
    init = CalloutStub(phase="init", method="init", engine=engine)
    define = (
        "msys.cidr.define('n', { type = 'rbldnsd', source = 'nets', default_value = 'none' }) "
        "msys.cidr.define('e', { type = 'empty' })"
    )
    await result(define, init)
    callout = callout_with_message(engine=engine)
    query = "return msys.cidr.query('n'), msys.cidr.query('n', '203.0.113.1'), msys.cidr.query('e')"
    assert await result(query, callout) == '{[1]="first",[2]="none",}'
    (tmp_path / "nets").write_text("192.0.2.0/24:second\n")
    assert await result("return msys.cidr.query('n')", callout) == '{[1]="first",}'
    engine.resources.networks[b"n"].due = 0.0
    assert await result("return msys.cidr.query('n')", callout) == '{[1]="second",}'
    (tmp_path / "nets").write_text("malformed\n")
    assert await result("return msys.cidr.reload('n'), msys.cidr.query('n')", callout) == '{[1]=false,[2]="second",}'
    for options in ("{ type = 'radb' }", "{ type = 'rbldnsd' }", "{ type = 'rbldnsd', source = 'none' }",
                    "{ type = 'rbldnsd', source = '/etc/passwd' }", "{ type = 'empty', value = 'x' }"):  # fmt: skip
        with pytest.raises(Failure, match=r"msys\.cidr\.define"):
            await result(f"msys.cidr.define('x', {options})", init)


async def test_capabilities_are_changed_at_connect_and_ehlo() -> None:
    callout = callout_with_message(phase="ehlo", method="validate_ehlo", message=None)
    await result("ac:esmtp_capability_remove('STARTTLS') ac:esmtp_capability_add('X-OURS 1')", callout)
    assert callout.session is not None
    assert callout.session.capabilities is not None
    assert callout.session.capabilities.removed == frozenset({"STARTTLS"})
    assert callout.session.capabilities.added == ("X-OURS 1",)
    with pytest.raises(Failure, match="keyword of EHLO"):
        await result("ac:esmtp_capability_add('X\\r\\n')", callout)


async def test_sessions_wait_for_a_lock_and_one_that_is_left_is_released() -> None:
    script = Script(*TABLES)
    engine = EngineStub()
    first, second = callout_with_message(engine=engine), callout_with_message(engine=engine)
    entered = trio.Event()
    steps: list[str] = []

    async def hold() -> None:
        await script.run(b"msys.lock('x')", current=first)
        entered.set()

    async def wait() -> None:
        await entered.wait()
        await script.run(b"msys.lock('x') msys.unlock('x')", current=second)
        steps.append("second")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold)
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        steps.append("first is over")
        for function in first.at_end:
            function()
    assert steps == ["first is over", "second"]


async def test_logs_and_registrations_reach_the_engine() -> None:
    callout = CalloutStub(phase="init", method="init")
    await result(
        "msys.log(msys.core.LOG_WARNING, 'a', 5) msys.registerControl('word', function() end) "
        "msys.registerAuth('ours', { authenticate = function() return msys.core.EC_AUTH_OK end })",
        callout,
    )
    assert callout.engine.logged == [(30, b"a\t5")]
    assert list(callout.engine.controls) == [b"word"]
    assert list(callout.engine.authenticators) == [b"ours"]
    with pytest.raises(Failure, match="is not a word of the console"):
        await result("msys.registerControl(' ', function() end)", callout)


async def test_a_function_for_later_waits_for_the_end_of_the_callout() -> None:
    callout = callout_with_message()
    assert await result("n = 0 local ok = msys.runInPool('IO', function() n = 1 end, true) return ok, n", callout) == (
        "{[1]=true,[2]=0,}"
    )
    assert len(callout.after) == 1


async def test_an_ipv6_peer_is_written_with_a_dot() -> None:
    callout = callout_with_message()
    assert callout.session is not None
    callout.session.peer, callout.session.peer_address = "[2001:db8::7]:5000", ip_address("2001:db8::7")
    assert await result("return ac.remote_addr, msg:reception_peer('ip'), msys.expandMacro('%{i}')", callout) == (
        '{[1]="2001:db8::7.5000",[2]="2001:db8::7",[3]="2001:db8::7",}'
    )
