"""Callouts of scripts in sessions: when they run, what they get, and what their answers do."""

# ruff: noqa: E501 - lines of Lua

import base64
import logging
from collections.abc import Mapping
from pathlib import Path

import pytest
import trio
import trio.testing
from lua_site import client_context, greeted, scripted_server

from triosmtp import Policy, Reject, Session
from triosmtp.config import load_config
from triosmtp.errors import ConfigError
from triosmtp.event import MessageAccepted, PolicyFailed, Refused
from triosmtp.server.startup import prepare_generation
from triosmtp.smtp import Address
from triosmtp.testing.memory_server import MemoryServer

HEAD = "require('msys.core') local mod, core = {}, msys.core "
BODY = b"Subject: a\r\n\r\nbody\r\n"


def script(body: str, name: str = "one") -> str:
    return f"{HEAD}{body} msys.registerModule('{name}', mod)"


async def test_all_callouts_run_in_their_order_with_their_arguments(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = script("""
        local function note(name, ...)
          local t = {}
          for i = 1, select("#", ...) do local v = select(i, ...) t[i] = type(v) == "userdata" and getmetatable(v) == "ec_string" and tostring(v):gsub("\\r\\n", "!") or type(v) == "userdata" and getmetatable(v) or type(v) end
          print(name, table.concat(t, " "))
        end
        function mod:init() note("init") return true end
        function mod:rsrc_setup() note("rsrc_setup") return true end
        function mod:deinit() note("deinit") return true end
        function mod:validate_dealloc() note("dealloc") end
        for _, name in ipairs { "core_validate_accept", "validate_connect", "validate_ehlo", "core_inbound_smtp_tls_post_accept", "validate_mailfrom", "validate_rcptto", "validate_data", "validate_data_spool", "validate_rcptto_list", "validate_rcptto_list_final", "validate_data_spool_each_rcpt" } do
          mod[name] = function(self, ...) note(name, ...) return core.VALIDATE_CONT end
        end
    """)
    with caplog.at_level(logging.INFO, "triosmtp.lua"):
        async with scripted_server(tmp_path, {"one": text}) as server:
            client = await greeted(server, "good")
            assert (await client.message("a@example.org", ["b@example.net", "c@example.net"], BODY)).code == 250
            await client.command("QUIT")
            await client.read_eof()
    lines = [record.message.partition("scriptlet: ")[2] for record in caplog.records if "scriptlet: " in record.message]
    assert lines == [
        "init\t",
        "rsrc_setup\t",
        "core_validate_accept\tac vctx",
        "validate_connect\tac vctx",
        "validate_ehlo\tEHLO client.example.org! ac vctx",
        "core_inbound_smtp_tls_post_accept\tmc number number nil number",
        "validate_ehlo\tEHLO client.example.org! ac vctx",
        "validate_mailfrom\tMAIL FROM:<a@example.org>! ac vctx",
        "validate_rcptto\tmsg RCPT TO:<b@example.net>! ac vctx",
        "validate_rcptto\tmsg RCPT TO:<c@example.net>! ac vctx",
        "validate_data\tmsg ac vctx",
        "validate_data_spool\tmsg ac vctx",
        "validate_rcptto_list\ttable vctx",
        "validate_rcptto_list_final\ttable vctx",
        "validate_data_spool_each_rcpt\tmsg ac vctx",
        "validate_data_spool_each_rcpt\tmsg ac vctx",
        "dealloc\t",
        "deinit\t",
    ]
    assert "script one, session " in caplog.text


ANSWERS = {
    # What MAIL gets: the body of validate_mailfrom of the first script, of the second, and the reply.
    "continue": ("return core.VALIDATE_CONT", "", "250 2.1.0 Sender ok"),
    "done": ("return core.VALIDATE_DONE", "vctx:set_code(550, 'x') return 1", "250 2.1.0 Sender ok"),
    "nothing": ("", "vctx:set_code(550, '5.1.1 x') return 1", "550 5.1.1 x"),
    "refusal": ("vctx:set_code(550, '5.7.1 no') return core.VALIDATE_DONE", "", "550 5.7.1 no"),
    "numeric text": ("vctx:set_code('451', '4.7.1 later') return 1", "", "451 4.7.1 later"),
    "no enhanced": ("vctx:set_code(554, 'no') return 1", "", "554 no"),
    "other class": ("vctx:set_code(554, '4.7.1 no') return 1", "", "554 4.7.1 no"),
    "several lines": ("vctx:set_code(550, '5.7.1 one\\r\\n5.7.1 two\\nthree') return 1", "", "550 5.7.1 one\n5.7.1 two\n5.7.1 three"),
    "control": ("vctx:set_code(550, '5.7.1 a\\0\\7b') return 1", "", "550 5.7.1 a??b"),
    "refused with CONT": ("vctx:set_code(550, '5.7.1 no') return core.VALIDATE_CONT", "", "550 5.7.1 no"),
    "the last stands": ("vctx:set_code(550, '5.7.1 no') return 0", "vctx:set_code(250, '2.1.0 yes') return 0", "250 2.1.0 yes"),
    "accepted with a text": ("vctx:set_code(250, '2.1.0 welcome') return 1", "", "250 2.1.0 welcome"),
    "pbp": ("return vctx:pbp_action(550, '5.7.1 pbp')", "", "550 5.7.1 pbp"),
    "disconnect": ("vctx:disconnect(550, '5.7.1 bye') return 1", "", "550 5.7.1 bye"),
    "disconnect = 1": ("vctx:set_code(451, '4.7.1 bye') vctx.disconnect = 1 return 1", "", "451 4.7.1 bye"),
    "disconnect alone": ("vctx.disconnect = 1 return 0", "", "421 4.7.0 Closing connection"),
    "disconnect 250": ("vctx:disconnect(250, '2.1.0 bye') return 1", "", "421 4.7.0 Closing connection"),
    "note": ("vctx.code = 552 vctx.note = '5.2.2 full' return 1", "", "552 5.2.2 full"),
    "421": ("vctx:set_code(421, '4.7.0 bye') return 1", "", "421 4.7.0 bye"),
}  # fmt: skip
FAILED = "421 mx.example.net temporary issue, please retry your message later"
WRONG = {
    "code nil": "vctx:set_code(nil, 'x') return 1",
    "code 199": "vctx:set_code(199, 'x') return 1",
    "code 600": "vctx:set_code(600, 'x') return 1",
    "code x": "vctx:set_code('x', 'x') return 1",
    "value": "return 7",
    "boolean": "return true",
    "text": "return 'x'",
    "error": "error('wrong')",
    "nil": "local x = nil; return x.y",
    "loop": "while true do end",
    "caught loop": "while true do pcall(function() while true do end end) end",
    "memory": "local s = 'x' while true do s = s .. s end",
    "reserved": "vctx:set(core.VCTX_CONN, 'tls_client_verified', 'yes') return 0",
    "yield": "coroutine.yield(1)",
    "put off for ever": "local function f() msys.runInPool('IO', f, true) end f() return 0",
    "out": "msys.core.dns_get_domain('x')",
    "discard": "core.accept_construct_get_message_construct(ac).message:discard('no message yet') return 0",
}  # fmt: skip


@pytest.mark.parametrize("case", ANSWERS)
async def test_the_answer_of_scripts_is_the_reply(tmp_path: Path, case: str) -> None:
    first, second, expected = ANSWERS[case]
    scripts = {
        "one": script(f"function mod:validate_mailfrom(str, ac, vctx) {first} end"),
        "two": script(f"function mod:validate_mailfrom(str, ac, vctx) {second} end", "two"),
    }
    async with scripted_server(tmp_path, scripts) as server:
        client = await greeted(server)
        assert str(await client.command("MAIL FROM:<a@example.org>")) == expected
        if case.startswith("disconnect") or case == "421":
            assert await client.read_eof() == b""
        elif expected.startswith("250"):
            assert (await client.command("RCPT TO:<b@example.net>")).code == 250
        else:
            assert (await client.command("NOOP")).code == 250
            assert str(await client.command("MAIL FROM:<c@example.org>")) == expected


@pytest.mark.parametrize("case", WRONG)
async def test_a_failing_script_accepts_nothing_and_ends_the_session(
    tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    more = "function mod:validate_rcptto() return 0 end"
    text = script(f"\n\nfunction mod:validate_mailfrom(str, ac, vctx) {WRONG[case]} end {more}")
    other = script("function mod:validate_mailfrom(str, ac, vctx) vctx:set_code(250, 'no') return 1 end", "two")
    async with scripted_server(tmp_path, {"one": text, "two": other}) as server:
        client = await greeted(server)
        assert str(await client.command("MAIL FROM:<a@example.org>")) == FAILED
        assert await client.read_eof() == b""
        (failed,) = [event for event in server.events if isinstance(event, PolicyFailed)]
        assert failed.phase == "mailfrom"
    assert "validate_mailfrom failed" in caplog.text
    if case in {"error", "nil", "loop", "reserved"}:
        assert "one.lua:3:" in caplog.text


async def test_mail_of_others_goes_on_while_a_script_is_hostile(tmp_path: Path) -> None:
    text = script("""function mod:validate_mailfrom(str, ac, vctx)
        if tostring(str):find("loop") then while true do end end
        if tostring(str):find("memory") then kept = {} for i = 1, 1e9 do kept[i] = ("x"):rep(1e6) .. i end end
        if tostring(str):find("bomb") then return (("a"):rep(5000) .. "b"):find(("a*"):rep(12) .. "c") end
        if tostring(str):find("giga") then local s = ("x"):rep(1e9) end
        if tostring(str):find("double") then local s = "x" while #s < 1e9 do s = s .. s end end
        if tostring(str):find("deep") then local function f(n) return 1 + f(n + 1) end f(1) end
        if tostring(str):find("yield") then table.sort({ 3, 2, 1 }, function(a, b) coroutine.yield() return a < b end) end
        if tostring(str):find("callback") then ("abc"):gsub(".", function() while true do pcall(error) end end) end
        return 0 end""")
    more = "Policy_Timeout = 30"
    async with scripted_server(tmp_path, {"one": text}, more=more) as server:
        good = await greeted(server)
        for word in ("loop", "bomb", "memory", "giga", "double", "deep", "yield", "callback", "loop"):
            bad = await greeted(server, peer="192.0.2.9")
            assert str(await bad.command(f"MAIL FROM:<{word}@example.org>")) == FAILED
            assert (await good.message("a@example.org", ["b@example.net"], BODY)).code == 250


async def test_locks_that_are_left_do_not_fill_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = script("""function mod:validate_mailfrom(str, ac, vctx)
        for i = 1, 300 do thread.mutex():lock() end
        return 0
    end""")
    async with scripted_server(tmp_path, {"one": text}) as server:
        assert (await (await greeted(server)).command("MAIL FROM:<a@example.org>")).code == 250
    assert caplog.text.count("was held at the end of the callout") == 100


async def test_what_waits_holds_up_its_own_session_alone(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    text = script("""function mod:validate_mailfrom(str, ac, vctx)
        if tostring(str):find("slow") then msys.sleep(3) end
        self.seen = (self.seen or 0) + 1
        vctx:set_code(250, "2.1.0 number " .. self.seen) return 0 end""")
    async with scripted_server(tmp_path, {"one": text}) as server:
        slow, quick = await greeted(server), await greeted(server)
        order = []

        async def mail(client: object, name: str) -> None:
            answer = await client.command(f"MAIL FROM:<{name}@example.org>")  # type: ignore[attr-defined]
            order.append((name, str(answer)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(mail, slow, "slow")
            await trio.sleep(1)
            nursery.start_soon(mail, quick, "quick")
        assert order == [("quick", "250 2.1.0 number 1"), ("slow", "250 2.1.0 number 1")]


async def test_a_script_that_takes_too_long_is_cut_off(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    text = script("function mod:validate_mailfrom(str, ac, vctx) msys.sleep(30) return 0 end")
    async with scripted_server(tmp_path, {"one": text}, more="Policy_Timeout = 4") as server:
        client = await greeted(server)
        began = autojump_clock.current_time()
        assert str(await client.command("MAIL FROM:<a@example.org>")) == FAILED
        assert autojump_clock.current_time() - began == pytest.approx(4, abs=0.5)


async def test_again_asks_again(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    text = script("""local asked = 0
        function mod:validate_mailfrom(str, ac, vctx)
        asked = asked + 1
        if asked < 4 then return core.VALIDATE_AGAIN end
        vctx:set_code(250, "2.1.0 asked " .. asked) return 0 end""")
    async with scripted_server(tmp_path, {"one": text}) as server:
        client = await greeted(server)
        assert str(await client.command("MAIL FROM:<a@example.org>")) == "250 2.1.0 asked 4"


async def test_a_refusal_at_connect_is_the_banner_and_closes(tmp_path: Path) -> None:
    text = script("function mod:validate_connect(ac, vctx) vctx:set_code(554, 'go away') return 1 end")
    async with scripted_server(tmp_path, {"one": text}) as server:
        client = server.connect()
        assert str(await client.read()) == "554 go away"
        assert await client.read_eof() == b""


async def test_a_text_at_connect_is_the_banner(tmp_path: Path) -> None:
    text = script("function mod:core_validate_accept(ac, vctx) vctx:set_code(220, 'hello ESMTP') return 0 end")
    async with scripted_server(tmp_path, {"one": text}) as server:
        assert str(await server.connect().read()) == "220 hello ESMTP"


async def test_the_callout_of_the_handshake_refuses_by_code_and_disconnect(tmp_path: Path) -> None:
    text = script("""function mod:core_inbound_smtp_tls_post_accept(mc, event, eventtype, vclosure, now)
        if mc.ctx:get(core.VCTX_CONN, "tls_client_verified") == "yes" then return end
        %s
    end""")
    refuses = "mc.ctx.code = 550 mc.ctx.disconnect = 1"
    note = 'mc.ctx:set(core.VCTX_CONN, "_tls_note", "554 5.7.0 not with this certificate")'
    for answer, expected in (
        (refuses, "421 4.7.0 TLS Negotiation failed."),
        (f"{refuses} {note}", "554 5.7.0 not with this certificate"),
        ("mc.ctx:disconnect(554, '5.7.0 not so')", "554 5.7.0 not so"),
        ("mc.ctx:set_code(421, '4.7.0 not so')", "421 4.7.0 not so"),  # as in all phases, the code refuses
    ):
        async with scripted_server(tmp_path, {"one": text % answer}) as server:
            client = server.connect()
            await client.read()
            await client.command("EHLO a.example.org")
            await client.starttls(client_context("none"))
            assert str(await client.command("MAIL FROM:<a@example.org>")) == expected
            assert await client.read_eof() == b""
            assert (await (await greeted(server, "good")).command("MAIL FROM:<a@example.org>")).code == 250


@pytest.mark.parametrize(
    ("callout", "reason", "reply"),
    [
        ("validate_data_spool", "", "550 5.7.0 discarded by policy"),
        ("validate_data", "spam", "550 5.7.1 [internal] spam"),
        ("validate_data_spool", "554 5.6.0 virus", "554 5.6.0 virus"),
    ],
)
async def test_a_discarded_message_is_accepted_and_logged(
    tmp_path: Path, callout: str, reason: str, reply: str
) -> None:
    text = script(f"function mod:{callout}(msg, ac, vctx) msg:discard({reason!r}) return 0 end")
    async with scripted_server(tmp_path, {"one": text}) as server:
        client = await greeted(server)
        assert (await client.message("a@example.org", ["b@example.net"], BODY)).code == 250
        assert server.messages == []
        (refused,) = [event for event in server.events if isinstance(event, Refused)]
        assert f"{refused.code} {refused.enhanced} {refused.text}" == reply
        assert refused.recipients == ("b@example.net",)
        (accepted,) = [event for event in server.events if isinstance(event, MessageAccepted)]
        assert accepted.discarded_by == "lua:one"


@pytest.mark.parametrize("callout", ["rcptto", "data_spool_each_rcpt"])
async def test_one_recipient_may_be_discarded(tmp_path: Path, callout: str) -> None:
    arguments = "msg, str, ac, vctx" if callout == "rcptto" else "msg, ac, vctx"
    text = script(
        f"function mod:validate_{callout}({arguments}) if msg:rcptto():find('^drop') then msg:discard() end return 0 end"
    )
    async with scripted_server(tmp_path, {"one": text}) as server:
        client = await greeted(server)
        assert (await client.message("a@example.org", ["drop@example.net", "b@example.net"], BODY)).code == 250
        assert [message.recipients for message in server.messages] == [("b@example.net",)]
        assert (await client.message("a@example.org", ["drop@example.net", "drop2@example.net"], BODY)).code == 250
        assert len(server.messages) == 1


@pytest.mark.parametrize("answer", ["vctx:set_code(450, '4.2.0 later')", ""])
async def test_the_latest_answer_about_a_recipient_stands(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, answer: str
) -> None:
    text = script(f"""function mod:validate_rcptto(msg, str, ac, vctx)
        self.count = (self.count or 0) + 1
        if self.count == 1 then msg:discard("not yet") {answer} end
        return 0
    end""")
    async with scripted_server(tmp_path, {"one": text}) as server:
        client = await greeted(server)
        await client.command("MAIL FROM:<a@example.org>")
        first = await client.command("RCPT TO:<b@example.net>")
        assert first.code == (450 if answer else 250)
        assert (await client.command("RCPT TO:<b@example.net>")).code == 250
        await client.command("DATA")
        await client.send(BODY + b".\r\n")
        assert (await client.read()).code == 250
        assert "b@example.net" in server.messages[0].recipients


async def test_a_refusal_of_one_copy_refuses_the_message(tmp_path: Path) -> None:
    text = script(
        "function mod:validate_data_spool_each_rcpt(msg, ac, vctx) if msg:rcptto():find('^c') then vctx:set_code(554, '5.7.1 no') end return 0 end"
    )
    async with scripted_server(tmp_path, {"one": text}) as server:
        client = await greeted(server)
        answer = await client.message("a@example.org", ["b@example.net", "c@example.net"], BODY)
        assert str(answer) == "554 5.7.1 no"
        assert server.messages == []


@pytest.mark.parametrize(
    ("callout", "chosen", "reply"),
    [
        ("validate_data", "two", "250"),
        ("validate_rcptto", "two", "250"),
        ("validate_data", "other", "451 4.3.5"),
        ("validate_data_spool_each_rcpt", "two", "250"),
        ("validate_data_spool_each_rcpt", "other", "451 4.3.5"),
    ],
)
async def test_a_script_chooses_the_delivery_of_a_message(
    tmp_path: Path, callout: str, chosen: str, reply: str
) -> None:
    before, call = ("msg, str, ac, vctx" if "rcptto" in callout else "msg, ac, vctx"), f"mod:{callout}"
    text = script(
        f"function {call}({before}) msg:context_set(core.ECMESS_CTX_MESS, 'deliver_to', '{chosen}') return 0 end"
    )
    more = f'Delivery "one" {{ Deliver_To = "maildir:{tmp_path}/one" }} Delivery "two" {{ Deliver_To = "maildir:{tmp_path}/two" }}'
    async with scripted_server(tmp_path, {"one": text}, more=more) as server:
        answer = await (await greeted(server)).message("a@example.org", ["b@example.net", "c@example.net"], BODY)
        assert str(answer).startswith(reply)
    assert not (tmp_path / "one").exists()
    assert (tmp_path / "two").exists() is (reply == "250")


async def test_a_text_may_accept_a_message(tmp_path: Path) -> None:
    text = script("function mod:validate_data_spool(msg, ac, vctx) vctx:set_code(250, '2.0.0 thanks') return 1 end")
    async with scripted_server(tmp_path, {"one": text}) as server:
        client = await greeted(server)
        for _ in range(2):
            assert str(await client.message("a@example.org", ["b@example.net"], BODY)) == "250 2.0.0 thanks"
        assert len(server.messages) == 2


@pytest.mark.parametrize(
    ("callout", "code", "commands"),
    [
        ("validate_connect(ac, vctx)", 250, ("EHLO a.example.org", "MAIL FROM:<a@example.org>")),
        ("validate_ehlo(str, ac, vctx)", 250, ("EHLO a.example.org", "MAIL FROM:<a@example.org>")),
        (
            "validate_rcptto(msg, str, ac, vctx)",
            354,
            ("EHLO a.example.org", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.net>"),
        ),
    ],
)
async def test_a_positive_text_is_that_of_its_own_phase_alone(
    tmp_path: Path, callout: str, code: int, commands: tuple[str, ...]
) -> None:
    class Asked(Policy):
        async def validate_mailfrom(
            self, session: Session, sender: Address, parameters: Mapping[str, str | None]
        ) -> None: ...

    text = script(f"function mod:{callout} vctx:set_code({code}, 'own text') return 0 end")
    async with scripted_server(tmp_path, {"one": text}, policy=Asked()) as server:
        client = server.connect()
        banner = await client.read()
        assert str(banner) == ("220 own text" if "connect" in callout else "220 mx.example.net ESMTP")
        for command in commands:
            answer = await client.command(command)
            assert answer.code == 250
            assert "own text" not in answer.text, command


async def test_a_refused_message_takes_the_text_with_it(tmp_path: Path) -> None:
    text = script("""function mod:validate_data_spool(msg, ac, vctx) vctx:set_code(250, "own text") return 0 end
        function mod:validate_data_spool_each_rcpt(msg, ac, vctx) if msg:rcptto():find("^no") then vctx:set_code(550, "no") end return 0 end""")
    async with scripted_server(tmp_path, {"one": text}) as server:
        client = await greeted(server)
        assert str(await client.message("a@example.org", ["no@example.net"], BODY)) == "550 no"
        assert str(await client.command("MAIL FROM:<a@example.org>")) == "250 2.1.0 Sender ok"
        await client.command("RSET")
        assert str(await client.message("a@example.org", ["b@example.net", "c@example.net"], BODY)) == "250 own text"


async def test_a_held_reply_ends_when_the_peer_leaves(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    text = script("function mod:validate_mailfrom(str, ac, vctx) vctx:tarpit(500) vctx:tarpit(0.5) return 0 end")
    async with scripted_server(tmp_path, {"one": text}) as server:
        client = await greeted(server)
        began = autojump_clock.current_time()
        assert (await client.command("MAIL FROM:<a@example.org>")).code == 250
        assert autojump_clock.current_time() - began == pytest.approx(60, abs=1)
        await client.command("RSET")
        await client.send(b"MAIL FROM:<a@example.org>\r\n")
        await trio.sleep(2)
        service = server.service
        service.draining = True
        began = autojump_clock.current_time()
        assert (await client.read()).code == 250
        assert autojump_clock.current_time() - began < 2


async def test_the_state_of_scripts(tmp_path: Path) -> None:
    text = script("""
        local count = 0
        mod.shared = "of the module"
        function mod:helper() return self.shared end
        function mod:validate_mailfrom(str, ac, vctx)
          count = count + 1
          total = (total or 0) + 1
          self.mine = (self.mine or 0) + 1
          _TLS.mine = (_TLS.mine or 0) + 1
          _OSTLS.all = (_OSTLS.all or 0) + 1
          msys.sleep(0)
          _TLS.mine = _TLS.mine + 0
          vctx:set_code(250, table.concat({ count, total, self.mine, _TLS.mine, _OSTLS.all, self:helper() }, " ")) return 0
        end""")
    async with scripted_server(tmp_path, {"one": text}) as server:
        first, second = await greeted(server), await greeted(server)
        said = []
        for client in (first, second, first):
            said.append(str(await client.command("MAIL FROM:<a@example.org>")))
            await client.command("RSET")
        assert said == [
            "250 1 1 1 1 1 of the module", "250 2 2 1 1 2 of the module", "250 3 3 2 2 3 of the module",
        ]  # fmt: skip


async def test_where_policy_names_the_scripts(tmp_path: Path) -> None:
    (tmp_path / "order_policy.py").write_text(
        "from triosmtp import Policy, Reject\n\n\nclass No(Policy):\n"
        "    async def validate_mailfrom(self, session, sender, parameters):\n"
        "        if session.variables.get('asked') or sender.local_part == 'first':\n"
        "            raise Reject(550, '5.7.1', f\"python, asked={session.variables.get('asked')}\")\n"
    )
    text = script("function mod:validate_mailfrom(str, ac, vctx) vctx:set(core.VCTX_CONN, 'asked', 'yes') return 0 end")
    for words, expected in (
        ('"python:order_policy:No"', "asked=yes"),
        ('"python:order_policy:No" "lua"', "asked=None"),
    ):
        async with scripted_server(tmp_path, {"one": text}, more=f"Policy = ( {words} )") as server:
            client = await greeted(server)
            assert expected in str(await client.command("MAIL FROM:<first@example.org>"))


AUTH = 'AuthPlainParameters = [ uri = "file:///{users}" stored_cleartext = true ]'


@pytest.mark.parametrize("callout", ["core_validate_auth_hook", "core_validate_auth"])
async def test_auth_has_a_callout_when_its_outcome_is_known(
    callout: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    users = tmp_path / "users"
    users.write_text("joe:secret\n")
    users.chmod(0o600)
    text = script(f"function mod:{callout}(vctx, info, status) print(info.user, info.mechanism, status) return 0 end")
    more = AUTH.format(users=users)
    listen = 'SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" "AUTH PLAIN" )'
    with caplog.at_level(logging.INFO, "triosmtp.lua"):
        async with scripted_server(tmp_path, {"one": text}, more=more, listen=listen) as server:
            client = await greeted(server, "none")
            for password, code in (("wrong", 535), ("secret", 235)):
                response = base64.b64encode(b"\0joe\0" + password.encode()).decode()
                answer = await client.command(f"AUTH PLAIN {response}")
                assert answer.code == code
    assert "joe\tPLAIN\tfail" in caplog.text
    assert "joe\tPLAIN\tpass" in caplog.text


async def test_the_callout_of_auth_may_close_the_connection(tmp_path: Path) -> None:
    text = script(
        "function mod:core_validate_auth_hook(vctx, info, status) vctx:disconnect(550, '5.7.1 not you') return 1 end"
    )
    more = "Allow_Plaintext_Auth = true Auth_Failure_Delay = 0.001 " + AUTH
    listen = 'SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "AUTH PLAIN" )'
    users = tmp_path / "users"
    users.write_text("joe:secret\n")
    users.chmod(0o600)
    async with scripted_server(tmp_path, {"one": text}, more=more.format(users=users), listen=listen) as server:
        client = await greeted(server)
        response = base64.b64encode(b"\0joe\0secret").decode()
        assert str(await client.command(f"AUTH PLAIN {response}")) == "550 5.7.1 not you"
        assert await client.read_eof() == b""


async def test_a_reload_replaces_the_scripts_and_a_session_keeps_its_own(tmp_path: Path) -> None:
    text = script(
        "loads = (loads or 0) + 1 function mod:validate_mailfrom(str, ac, vctx) vctx:set_code(250, 'old ' .. loads) return 0 end"
    )
    async with scripted_server(tmp_path, {"one": text}) as server:
        before = await greeted(server)
        await before.command("MAIL FROM:<a@example.org>")
        (tmp_path / "one.lua").write_text(text.replace("old", "new"))
        await reload(server, tmp_path)
        after = await greeted(server)
        assert str(await after.command("MAIL FROM:<a@example.org>")) == "250 new 1"
        assert (await before.command("RCPT TO:<b@example.net>")).code == 250


async def reload(server: MemoryServer, folder: Path) -> None:
    """Reload as a server does."""
    service, config = server.service, load_config(folder / "ecelerity.conf")
    profiles = service.profiles.renewed(config)
    try:
        made, renewal = await trio.to_thread.run_sync(prepare_generation, config, profiles, service.contexts)
    except BaseException:
        await profiles.discard()
        raise
    service.activate(made)
    service.contexts.adopt(renewal)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("x = = 5", "one.lua:1: unexpected symbol near '='"),
        ("x = 5 &", "one.lua:1: unexpected symbol near '<eof>'"),
        ("\nx = nil; x.y = 1", "one.lua:2: attempt to index global 'x' (a nil value)"),
        ("require 'policy.missing'", "module 'policy.missing' not found"),
        (script("function mod:init() return 1 end"), "init of one must return true"),
        (script("function mod:rsrc_setup() end"), "rsrc_setup of one must return true"),
        (script("function mod:init() error('no file') end"), "init of one: "),
        ("while true do end", "too many instructions"),
        (script("setmetatable(mod, { __index = function(_, name) error('no ' .. name) end })"), "the table of one: "),
        (script("setmetatable(mod, { __index = function() while true do end end })"), "too many instructions"),
    ],
)
async def test_a_reload_that_fails_changes_nothing(tmp_path: Path, broken: str, message: str) -> None:
    text = script("function mod:validate_mailfrom(str, ac, vctx) vctx:set_code(250, 'old') return 0 end")
    async with scripted_server(tmp_path, {"one": text}) as server:
        (tmp_path / "one.lua").write_text(broken)
        with pytest.raises(ConfigError) as failed:
            await reload(server, tmp_path)
        assert message in str(failed.value)
        (problem,) = failed.value.problems
        assert problem.position is not None
        assert problem.position.line == 4
        assert problem.message.startswith("script one: ")
        client = await greeted(server)
        assert str(await client.command("MAIL FROM:<a@example.org>")) == "250 old"


async def test_a_script_that_another_requires_runs_once(tmp_path: Path) -> None:
    first = "runs = (runs or 0) + 1 " + script(
        "function mod:validate_mailfrom(str, ac, vctx) calls = (calls or 0) + 1 return 0 end"
    )
    second = "require('one') " + script(
        "function mod:validate_mailfrom(str, ac, vctx) vctx:set_code(250, runs .. ' ' .. calls) return 0 end", "two"
    )
    async with scripted_server(tmp_path, {"one": first, "two": second}) as server:
        client = await greeted(server)
        assert str(await client.command("MAIL FROM:<a@example.org>")) == "250 1 1"


async def test_a_script_may_have_the_name_of_a_module(tmp_path: Path) -> None:
    text = script(
        "function mod:validate_mailfrom(str, ac, vctx) vctx:set_code(250, json.encode({ 1 })) return 0 end", "json"
    )
    async with scripted_server(tmp_path, {"json": text}) as server:
        client = await greeted(server)
        assert str(await client.command("MAIL FROM:<a@example.org>")) == "250 [1]"


async def test_scripts_are_asked_before_the_policies_of_a_program(tmp_path: Path) -> None:
    class Asked(Policy):
        async def validate_mailfrom(
            self, session: Session, sender: Address, parameters: Mapping[str, str | None]
        ) -> None:
            raise Reject(550, "5.7.1", session.variables.get("seen") or "not seen")

    text = script(
        "function mod:validate_mailfrom(str, ac, vctx) vctx:set(core.VCTX_CONN, 'seen', 'seen by Lua') return 0 end"
    )
    async with scripted_server(tmp_path, {"one": text}, policy=Asked()) as server:
        client = await greeted(server)
        assert str(await client.command("MAIL FROM:<a@example.org>")) == "550 5.7.1 seen by Lua"
