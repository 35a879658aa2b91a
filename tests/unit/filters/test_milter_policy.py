"""A milter in the chain, with a milter of the tests at the other end of a socket."""

import re
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import trio
from filter_session import begun, conf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from milter_program import CONTINUE, Answers, MilterProgram, milter_program, strings
from policyd_service import policyd_service

from triosmtp.event import MessageAccepted, MessageRefused, PolicyFallback, Refused
from triosmtp.filters.milter_codec import Protocol
from triosmtp.message.header_edits import parse_header
from triosmtp.testing import MemoryServer, ReceivedMessage, ScriptedClient, open_memory_server

BODY = b"Subject: x\r\nTo: you\r\n\r\nhello\r\n"
CHANGES = (
    b"i\0\0\0\0" + strings("X-First", "1"),
    b"h" + strings("X-Last", "a\n\tb"),
    b"m\0\0\0\1" + strings("Subject", "new"),
    b"m\0\0\0\1" + strings("To", ""),
    b"bnew ",
    b"bbody\r\n",
)


def at(code: str, *answers: bytes) -> Answers:
    """Answer one command with these frames, and continue at all others."""
    return lambda found, _data: answers if found == code else (CONTINUE,)


def end(*changes: bytes, verdict: bytes = CONTINUE) -> Answers:
    return at("E", *changes, verdict)


async def arrived(milter: MilterProgram, done: Callable[[], bool]) -> None:
    await trio.to_thread.run_sync(milter.wait_for, done)


def fallbacks(server: MemoryServer) -> list[PolicyFallback]:
    return [event for event in server.events if isinstance(event, PolicyFallback)]


async def sent(client: ScriptedClient, body: bytes = BODY, recipients: Iterable[str] = ("you@example.com",)) -> str:
    return str(await client.message("a@example.org", list(recipients), body))


async def one(answers: Answers, more: str = "", body: bytes = BODY, scope: str = "") -> tuple[str, MemoryServer]:
    """Send one message past a milter; return the first refusal or the last reply."""
    with milter_program(answers) as milter:
        async with open_memory_server(conf(milter, more, scope)) as server:
            return await sent(await begun(server), body), server


def delivered(server: MemoryServer) -> ReceivedMessage:
    (message,) = server.messages
    return message


# The dialogue


async def test_all_steps_come_in_their_order_and_nothing_of_the_server_is_in_them() -> None:
    with milter_program() as milter:
        async with open_memory_server(conf(milter, 'Banner_Hostname = "mx.test"')) as server:
            client = await begun(server)
            body = (
                b"Received: from x\r\n\tby y\r\nA:  b\r\nAuthentication-Results: mx.test; x=pass\r\n\r\nhello\r\n.dot"
            )
            assert (await sent(client, body, ("a@example.com", "b@example.com"))).startswith("250")
            await client.command("QUIT")
            await arrived(milter, lambda: milter.last.commands.endswith("Q"))
        found = milter.last
        assert found.commands == "OCHMRRTLLNBEQ"
        assert found.data_of("C") == [strings("[192.0.2.1]") + b"4" + struct.pack(">H", 1024) + strings("192.0.2.1")]
        assert found.data_of("H") == [strings("client.example.org")]
        assert found.data_of("M") == [strings("<a@example.org>")]
        assert found.data_of("R") == [strings("<a@example.com>"), strings("<b@example.com>")]
        assert found.data_of("L") == [strings("Received", "from x\n\tby y"), strings("A", " b")]
        assert found.data_of("B") == [b"hello\r\n.dot\r\n"]


async def test_parameters_macros_and_a_large_body_arrive_whole() -> None:
    large = b"".join(b"%070d\r\n" % number for number in range(20_000))  # in a file
    with milter_program() as milter:
        async with open_memory_server(conf(milter)) as server:
            client = await begun(server)
            assert (await client.command("MAIL FROM:<a@example.org> SIZE=9 BODY=8BITMIME")).code == 250
            assert (await client.command("RCPT TO:<you@example.com>")).code == 250
            assert (await client.command("DATA")).code == 354
            await client.send(b"A: b\r\n\r\n" + large + b".\r\n")
            assert (await client.read()).code == 250
        assert milter.last.data_of("M") == [strings("<a@example.org>", "SIZE=9", "BODY=8BITMIME")]
        chunks = milter.last.data_of("B")
        assert b"".join(chunks) == large
        assert max(map(len, chunks)) <= 65_535
        macros = dict(milter.last.macros())
        assert macros["M"] == {
            "{mail_addr}": "a@example.org", "{mail_host}": "example.org", "{mail_mailer}": "smtp",
        }  # fmt: skip
        assert macros["R"] == {
            "i": macros["E"]["i"],
            "{rcpt_addr}": "you@example.com", "{rcpt_host}": "example.com", "{rcpt_mailer}": "relay",
        }  # fmt: skip
        assert macros["E"].keys() == {"i"}


async def test_a_milter_gets_only_the_steps_and_spaces_that_it_negotiated() -> None:
    with milter_program() as milter:
        milter.protocol = (
            Protocol.NOCONNECT | Protocol.NOHELO | Protocol.NODATA | Protocol.NOEOH | Protocol.NR_HDR
            | Protocol.NR_MAIL | Protocol.NR_BODY | Protocol.HDR_LEADSPC
        )  # fmt: skip
        milter.answers = lambda code, _data: () if code in "MLB" else (CONTINUE,)
        async with open_memory_server(conf(milter)) as server:
            assert (await sent(await begun(server))).startswith("250")
        assert milter.last.commands.rstrip("AQ") == "OMRLLBE"
        assert milter.last.data_of("L")[0] == strings("Subject", " x")


async def test_skip_ends_the_body_and_nothing_else() -> None:
    with milter_program(at("B", b"s")) as milter:
        milter.protocol = Protocol.SKIP
        async with open_memory_server(conf(milter)) as server:
            assert (await sent(await begun(server), b"A: b\r\n\r\n" + b"x\r\n" * 50_000)).startswith("250")
        assert milter.last.commands.rstrip("AQ") == "OCHMRTLNBE"


async def test_only_recipients_that_the_server_accepts_are_asked_about() -> None:
    with milter_program() as milter:
        async with open_memory_server(conf(milter)) as server:
            client = await begun(server)
            await client.command("MAIL FROM:<a@example.org>")
            assert str(await client.command("RCPT TO:<x@elsewhere.example>")) == "550 5.7.1 relaying denied"
            await client.command("RCPT TO:<you@example.com>")
            assert milter.last.commands == "OCHMR"
        milter.protocol = Protocol.RCPT_REJ
        async with open_memory_server(conf(milter)) as server:
            client = await begun(server)
            await client.command("MAIL FROM:<a@example.org>")
            assert str(await client.command("RCPT TO:<x@elsewhere.example>")) == "550 5.7.1 relaying denied"
            assert milter.last.commands == "OCHMR"
            macros = dict(milter.last.macros())["R"]
            assert macros.pop("i")
            assert macros == {
                "{rcpt_addr}": "relaying denied", "{rcpt_host}": "5.7.1", "{rcpt_mailer}": "error",
            }  # fmt: skip


async def test_fields_that_policies_added_come_first_and_can_be_changed() -> None:
    with milter_program(end(b"m\0\0\0\1" + strings("X-Policy", "changed"))) as milter, policyd_service() as service:
        service.answer = lambda _request, connection: connection.sendall(b"action=PREPEND X-Policy: a\n\n")
        more = f'Policy = ( "{service.address}" "{milter.address}" )'
        async with open_memory_server(conf(milter, more)) as server:
            client = await begun(server)
            assert (await sent(client)).startswith("250")
            assert milter.last.data_of("L")[0] == strings("X-Policy", "a")
            assert b"X-Policy" not in delivered(server).trace
            assert delivered(server).body == b"X-Policy: changed\r\n" + BODY
            milter.answers = end()
            assert (await sent(client)).startswith("250")
            assert b"X-Policy: a\r\n" in server.messages[1].trace  # without a change they stay in the trace


async def test_a_command_that_nobody_knows_is_a_step_of_its_own() -> None:
    with milter_program(at("U", b"y" + strings("502 5.5.9 Not even this"))) as milter:
        async with open_memory_server(conf(milter)) as server:
            client = await begun(server)
            assert str(await client.command("XNOTHING at all")) == "502 5.5.9 Not even this"
            assert milter.last.data_of("U") == [strings("XNOTHING")]
            assert (await client.command("MAIL FROM:<a")).code == 501  # known, and wrong
            milter.answers = failing(milter, "U", "unknown")
            assert (await client.command("XNOTHING")).code == 500
            assert [event.phase for event in fallbacks(server)] == ["ehlo"]
            assert (await client.command("XNOTHING")).code == 500
            assert (await sent(client)).startswith("250")
            milter.answers = at("U", CONTINUE)
            assert (await client.command("XNOTHING")).code == 500


# Verdicts

REPLIES = {
    b"r": "550 5.7.1 Command rejected",
    b"t": "451 4.7.1 Service unavailable - try again later",
    b"4": "421 4.7.0 Closing the connection",
    b"y" + strings("451 4.2.0 a%%b"): "451 4.2.0 a%b",
    b"y" + strings("550 plain"): "550 5.7.1 plain",
    b"y" + strings("521-5.3.2 one\r\n521 5.3.2 two"): "521 5.3.2 one\n5.3.2 two",
}


@pytest.mark.parametrize("code", list("HMRTLNBE"))
@pytest.mark.parametrize(("verdict", "reply"), REPLIES.items())
async def test_each_refusal_has_its_reply_at_each_step(code: str, verdict: bytes, reply: str) -> None:
    with milter_program(at(code, verdict)) as milter:
        async with open_memory_server(conf(milter)) as server:
            client = server.connect()
            await client.read()
            hello = await client.command("EHLO client.example.org")
            if hello.code >= 400:  # a reply to EHLO has no enhanced status code
                assert f"{hello.code} {hello.text}" == re.sub(r"\d\.\d\.\d ", "", reply)
            else:
                assert await sent(client) == reply
            assert server.messages == []
            refused = [e for e in server.events if isinstance(e, Refused | MessageRefused)]
            assert refused[-1].decided_by == "filter:x"


@pytest.mark.parametrize(("verdict", "code"), [(b"r", 554), (b"t", 421), (b"y" + strings("550 5.1.8 No"), 554)])
async def test_a_refusal_at_connect_is_the_banner(verdict: bytes, code: int) -> None:
    with milter_program(at("C", verdict)) as milter:
        async with open_memory_server(conf(milter)) as server:
            assert (await server.connect().read()).code == code


async def test_a_refused_recipient_is_refused_alone() -> None:
    def answers(code: str, data: bytes) -> tuple[bytes, ...]:
        return (b"r",) if code == "R" and b"<no@" in data else (CONTINUE,)

    with milter_program(answers) as milter:
        async with open_memory_server(conf(milter)) as server:
            client = await begun(server)
            await client.command("MAIL FROM:<a@example.org>")
            assert (await client.command("RCPT TO:<no@example.com>")).code == 550
            assert (await client.command("RCPT TO:<yes@example.com>")).code == 250
            await client.command("DATA")
            await client.send(BODY + b".\r\n")
            assert (await client.read()).code == 250
            assert delivered(server).recipients == ("yes@example.com",)


@pytest.mark.parametrize(
    ("code", "rest"), [("C", ""), ("H", ""), ("M", "MM"), ("R", "RMR"), ("L", "LMRTL"), ("E", "EMRTLLNBE")]
)
async def test_accept_ends_the_milter_for_the_message_or_the_session(code: str, rest: str) -> None:
    with milter_program(at(code, b"a")) as milter:
        async with open_memory_server(conf(milter)) as server:
            client = await begun(server)
            assert [(await sent(client))[:3] for _ in range(2)] == ["250", "250"]
        first = milter.last.commands.index(code)
        assert milter.last.commands[first:].replace("A", "").rstrip("Q") == (code + rest[1:] if rest else code)


async def test_after_accept_the_later_policies_are_asked() -> None:
    with milter_program(at("M", b"a")) as milter, milter_program(at("M", b"r")) as later:
        async with open_memory_server(conf(milter, f'Policy = ( "{milter.address}" "{later.address}" )')) as server:
            assert await sent(await begun(server)) == "550 5.7.1 Command rejected"


@pytest.mark.parametrize("code", list("MRTLNBE"))
async def test_discard_is_accepted_and_goes_nowhere(code: str) -> None:
    with milter_program(at(code, b"d")) as milter:
        async with open_memory_server(conf(milter)) as server:
            client = await begun(server)
            assert (await sent(client)).startswith("250")
            assert server.messages == []
            accepted = next(event for event in server.events if isinstance(event, MessageAccepted))
            assert accepted.discarded_by == "filter:x"
            milter.answers = end()
            assert (await sent(client)).startswith("250")  # it held for that message alone
            assert len(server.messages) == 1


# Changes


@pytest.mark.parametrize("verdict", [CONTINUE, b"a"])
async def test_changes_of_header_and_body_are_applied(verdict: bytes) -> None:
    reply, server = await one(end(b"p", *CHANGES, verdict=verdict))
    assert reply.startswith("250")
    assert delivered(server).body == b"X-First: 1\r\nSubject: new\r\nX-Last: a\r\n\tb\r\n\r\nnew body\r\n"


async def test_a_message_in_a_file_is_changed_and_one_in_chunks_is_asked_about(tmp_path: Path) -> None:
    rest = b"x" * 77 + b"\r\n"
    large, new = BODY + rest * 20_000, b"new\r\n" + rest * 15_000
    parts = [b"b" + new[at : at + 65_535] for at in range(0, len(new), 65_535)]
    more = f'Spool_Directory = "{tmp_path}" SMTP_Extensions = ( "CHUNKING" )'
    with milter_program(end(*CHANGES[:4])) as milter:
        async with open_memory_server(conf(milter, more)) as server:
            client = await begun(server)
            assert (await sent(client, large)).startswith("250")
            changed = server.messages[0].body
            assert changed.startswith(b"X-First: 1\r\nSubject: new\r\nX-Last: a\r\n\tb\r\n\r\nhello\r\n")
            assert changed.endswith(rest)
            assert len(changed) > 20_000 * len(rest)
            milter.answers = end(*parts)
            await client.command("MAIL FROM:<a@example.org>")
            await client.command("RCPT TO:<you@example.com>")
            await client.send(b"BDAT %d\r\n%bBDAT %d LAST\r\n%b" % (len(BODY), BODY, len(rest), rest))
            assert [(await client.read()).code for _ in range(2)] == [250, 250]
            assert milter.last.commands.replace("A", "").endswith("MRTLLNBE")
            assert b"".join(milter.last.data_of("B")[-1:]) == b"hello\r\n" + rest
            assert server.messages[1].body == BODY.partition(b"hello")[0] + new


async def test_a_new_body_takes_space_in_the_spool_while_the_message_is_there(tmp_path: Path) -> None:
    parts = [b"b" + b"x" * 65_000] * 16
    more = f'Spool_Directory = "{tmp_path}" Spool_Max_Size = 2000000'  # one address may use a quarter
    with milter_program(end(*parts)) as milter:
        async with open_memory_server(conf(milter, more)) as server:
            client = await begun(server)
            for _ in range(2):
                assert await sent(client) == "452 4.3.1 Insufficient system storage"
            assert server.messages == []
            milter.answers = end(b"bnew")
            assert (await sent(client)).startswith("250")
        async with open_memory_server(conf(milter, more.replace("2000000", "8000000"))) as server:
            milter.answers = end(*parts)
            client = await begun(server)
            for _ in range(3):  # what one took is given back
                assert (await sent(client)).startswith("250")


@pytest.mark.parametrize("verdict", [b"r", b"t", b"d"])
async def test_changes_before_a_refusal_have_no_effect(verdict: bytes) -> None:
    _, server = await one(end(*CHANGES, verdict=verdict))
    assert server.messages == []


async def test_the_envelope_is_changed() -> None:
    changes = (
        b"e" + strings("<new@example.org>", "RET=HDRS"),
        b"+" + strings("more@example.com"),
        b"2" + strings("<other@example.com>", "NOTIFY=NEVER"),
        b"+" + strings("<MORE@EXAMPLE.com>"),
        b"-" + strings("<YOU@example.COM>"),
        b"-" + strings("<nobody@example.com>"),
    )
    reply, server = await one(end(*changes))
    assert reply.startswith("250")
    message = delivered(server)
    assert (message.sender, message.recipients) == ("new@example.org", ("more@example.com", "other@example.com"))
    assert message.body == BODY


async def test_a_message_without_recipients_goes_nowhere() -> None:
    reply, server = await one(end(b"-" + strings("<you@example.com>")))
    assert reply.startswith("250")
    assert server.messages == []


@pytest.mark.parametrize(
    "change",
    [
        b"+" + strings("<x@elsewhere.example>"),
        b"+" + strings("<x%y@example.com>"),
        b"+" + strings("not an address"),
        b"+" + strings("postmaster"),
        b"+" + strings("<>"),
        b"+" + strings("<a@example.com>\r\nRCPT TO:<b@example.com>"),
        b"+" + strings("<é@example.com>"),
        b"2" + strings("<x@example.com>", "NOTIFY=NEVER X=Y"),
        b"2" + strings("<x@example.com>", "NOTIFY=\r\nDATA"),
        b"-" + strings("no address"),
        b"e" + strings("<new@needs-tls.example>"),
        b"e" + strings("<a b@example.org>"),
        b"e" + strings("<new@example.org>", "BODY=9BIT"),
        b"q" + strings("suspicious"),
    ],
)
async def test_a_change_that_the_rules_forbid_is_temporary_and_nothing_is_changed(change: bytes) -> None:
    with milter_program(end(*CHANGES, change)) as milter:
        async with open_memory_server(conf(milter, 'Require_TLS_From = ( "needs-tls.example" )')) as server:
            client = await begun(server)
            assert await sent(client) == "451 4.3.5 Server configuration error"
            assert server.messages == []
            assert fallbacks(server) == []
            milter.answers = end()
            assert (await sent(client)).startswith("250")
            assert delivered(server).body == BODY


async def test_added_recipients_count_and_must_be_known() -> None:
    added = [b"+" + strings(f"<u{number}@example.com>") for number in range(3)]
    reply, _ = await one(end(*added), "Max_Recipients_Per_Message = 3")
    assert reply == "451 4.3.5 Server configuration error"
    reply, _ = await one(end(*added), "Max_Recipients_Per_Message = 4")
    assert reply.startswith("250")


async def test_an_authorized_client_may_get_a_recipient_elsewhere() -> None:
    reply, server = await one(end(b"+" + strings("<x@elsewhere.example>")), 'Relay_Hosts = ( "192.0.2.1" )')
    assert reply.startswith("250")
    assert delivered(server).recipients == ("you@example.com", "x@elsewhere.example")


# Failures

BAD = {
    "closed": (),
    "unknown": (b"Z",),
    "two": (CONTINUE, CONTINUE),
    "change": (b"h" + strings("X", "1"), CONTINUE),
    "conn_fail": (b"f",),
    "malformed": (b"y" + strings("hello"),),
}


def failing(milter: MilterProgram, code: str, kind: str) -> Answers:
    def answers(found: str, _data: bytes) -> tuple[bytes, ...]:
        if found == code and kind == "closed":
            raise OSError
        return BAD[kind] if found == code else (CONTINUE,)

    return answers


@pytest.mark.parametrize("code", list("CHMRTLNB"))
@pytest.mark.parametrize("kind", BAD)
async def test_a_milter_that_fails_is_the_fallback(code: str, kind: str) -> None:
    with milter_program() as milter:
        milter.answers = failing(milter, code, kind)
        async with open_memory_server(
            conf(milter, scope='Policy_Fallback_Phases = [ "connect" = "continue" ]')
        ) as server:
            client = server.connect()
            await client.read()
            hello = await client.command("EHLO client.example.org")
            reply = str(hello) if hello.code >= 400 else await sent(client)
            assert reply.replace(" 4.3.0", "") == "451 Local error in processing"
            assert server.messages == []
            assert {event.group for event in fallbacks(server)} == {"filter:x"}
            milter.answers = end()
            await client.command("EHLO client.example.org")
            assert (await sent(client)).startswith("250")  # the next message has a new connection
            assert milter.last.commands.rstrip("AQ").endswith("OCHMRTLLNBE") or code in "CH"


@pytest.mark.parametrize("kind", ["closed", "unknown", "two"])
async def test_a_milter_that_fails_after_its_changes_has_changed_nothing(kind: str) -> None:
    with milter_program() as milter:
        bad = failing(milter, "E", kind)
        milter.answers = lambda code, data: (*CHANGES, *bad(code, data)) if code == "E" else (CONTINUE,)
        async with open_memory_server(conf(milter, scope='Policy_Fallback = "continue"')) as server:
            assert (await sent(await begun(server))).startswith("250")
            assert delivered(server).body == BODY
            assert [(event.phase, event.fallback) for event in fallbacks(server)] == [("data_spool", "continue")]


async def test_an_action_that_was_not_negotiated_is_an_error() -> None:
    with milter_program(end(b"h" + strings("X", "1"))) as milter:
        milter.actions = 0x10
        async with open_memory_server(conf(milter)) as server:
            assert (await sent(await begun(server))).startswith("451")
            assert "has not negotiated ADDHDRS" in fallbacks(server)[0].failure


async def test_what_fails_in_a_message_holds_for_all_of_it_and_is_reported_once() -> None:
    with milter_program() as milter:
        milter.answers = failing(milter, "R", "unknown")
        async with open_memory_server(conf(milter, scope='Policy_Fallback = "continue"')) as server:
            client = await begun(server)
            assert (await sent(client, recipients=("a@example.com", "b@example.com"))).startswith("250")
            assert milter.last.commands == "OCHMR"
            assert len(fallbacks(server)) == 1


async def test_a_milter_that_hangs_is_timed_out_and_then_the_breaker_is_open() -> None:
    with milter_program(at("M")) as milter:  # it never answers MAIL
        async with open_memory_server(conf(milter, scope="Policy_Timeout = 0.05")) as server:
            client = await begun(server)
            for _ in range(5):
                assert (await sent(client)).startswith("451")
            assert [event.failure for event in fallbacks(server)] == ["timed out after 0.05 s at the step mail"] * 5
            connections = len(milter.sessions)
            assert (await sent(client)).startswith("451")
            assert "circuit breaker" in fallbacks(server)[-1].failure
            assert len(milter.sessions) == connections


async def test_progress_gives_more_time_but_not_for_ever() -> None:
    stopped = trio.Event()

    def answers(code: str, _data: bytes) -> Iterable[bytes]:
        while code == "E" and not stopped.is_set():
            yield b"p"
        yield CONTINUE

    reply, server = await one(answers, scope="Policy_Timeout = 0.02")
    stopped.set()
    assert reply.startswith("451")
    assert any(text in fallbacks(server)[0].failure for text in ("timed out", "frames in one answer"))


async def test_a_milter_that_was_started_again_gets_a_new_connection() -> None:
    with milter_program() as milter:
        async with open_memory_server(conf(milter)) as server:
            client = await begun(server)
            assert (await sent(client)).startswith("250")
            milter.stop()
            milter.start()
            assert (await sent(client)).startswith("250")
            assert fallbacks(server) == []
            milter.stop()
            assert (await sent(client)).startswith("451")
            assert "cannot connect" in fallbacks(server)[0].failure


async def test_without_a_milter_the_connection_is_refused_for_now() -> None:
    milter = MilterProgram()
    milter.port = 9
    async with open_memory_server(conf(milter)) as server:
        assert (await server.connect().read()).code == 421


# Messages and clients


async def test_nothing_of_a_message_is_in_the_next_one() -> None:
    with milter_program() as milter:
        async with open_memory_server(conf(milter)) as server:
            client = await begun(server)
            await client.command("MAIL FROM:<one@example.org> SIZE=5")
            await client.command("RCPT TO:<one@example.com>")
            await client.command("RSET")
            await client.command("MAIL FROM:<two@example.org>")
            assert milter.last.commands == "OCHMRAM"
            await client.command("EHLO again.example.org")
            await arrived(milter, lambda: milter.last.commands == "OCHMRAMAH")
            assert (await sent(client)).startswith("250")
            assert (await sent(client)).startswith("250")
            assert milter.last.commands == "OCHMRAMAHMRTLLNBEMRTLLNBE"
            assert milter.last.data_of("M")[-1] == strings("<a@example.org>")


async def test_an_announced_client_is_another_session_of_the_milter() -> None:
    more = 'SMTP_Extensions = ( "XCLIENT" )'
    with milter_program() as milter:
        async with open_memory_server(conf(milter, more)) as server:
            client = await begun(server)
            await client.command("XCLIENT NAME=a.example.net ADDR=198.51.100.7 PORT=77")
            await client.command("EHLO two.example.org")
            await arrived(milter, lambda: len(milter.sessions) == 2 and milter.sessions[0].commands == "OCHQ")
            assert milter.last.data_of("C") == [strings("a.example.net") + b"4\0M" + strings("198.51.100.7")]
            macros = dict(milter.last.macros())["C"]
            assert macros["_"] == "a.example.net [198.51.100.7]"
            assert macros["{client_resolve}"] == "OK"


async def test_the_header_that_cannot_be_edited_is_refused() -> None:
    reply, server = await one(end(), body=b"a: b\r\n" * 1001 + b"\r\nx\r\n")
    assert reply == "552 5.3.4 The header is too large for the filter"
    assert server.messages == []


async def test_the_end_of_a_session_is_the_end_of_the_connection() -> None:
    with milter_program() as milter:
        async with open_memory_server(conf(milter)) as server:
            client = await begun(server)
            await client.stream.aclose()
            await arrived(milter, lambda: milter.last.commands == "OCHQ")


async def test_quarantine_delivers_to_hold_to_with_the_other_changes_or_is_a_temporary_error(tmp_path: Path) -> None:
    answers = end(b"h" + strings("X-Why", "virus"), b"q" + strings("virus"))
    held = f'Delivery "held" {{ Deliver_To = "maildir:{tmp_path}/held" }}'
    reply, server = await one(answers, held, scope="Hold_To = held")
    assert (reply[:3], server.messages) == ("250", [])
    [message] = (tmp_path / "held/new").iterdir()
    assert b"\nX-Why: virus\n" in message.read_bytes()
    reply, server = await one(answers)
    assert (reply, server.messages) == ("451 4.3.5 Server configuration error", [])


# A hostile milter

EVIL = b"a\r\nBcc: evil@example.org\r\n\r\n.\r\nMAIL FROM:<>\r\n"


@pytest.mark.parametrize("code", [b"h", b"i\0\0\0\0", b"m\0\0\0\1"])
async def test_cr_lf_in_a_value_makes_no_field_and_no_body(code: bytes) -> None:
    reply, server = await one(end(code + b"Subject\0" + EVIL + b"\0"))
    assert reply.startswith("250")
    body = delivered(server).body
    header = parse_header(body, complete=True)
    assert {each.name for each in header.fields} == {b"Subject", b"To"}
    assert body[header.body_start :] == b"hello\r\n"
    assert b"\n" not in body.replace(b"\r\n", b"")


@pytest.mark.parametrize(
    "answer",
    [
        b"h" + EVIL + b"\0x\0", b"i\0\0\0\0" + EVIL + b"\0x\0", b"m\0\0\0\1X:\0x\0", b"h\0x\0", b"+" + EVIL + b"\0",
        b"e<" + EVIL + b">\0", b"2<you@example.com>\0NOTIFY=NEVER\r\nDATA\0", b"-" + EVIL + b"\0",
        b"y550 5.7.1 " + EVIL + b"\0", b"y" + EVIL + b"\0", b"q", b"O" + bytes(12), b"D" + EVIL, b"E", b"A", b"\0",
    ],
)  # fmt: skip
async def test_cr_lf_elsewhere_and_frames_of_the_server_are_temporary_errors(answer: bytes) -> None:
    with milter_program(end(answer)) as milter:
        async with open_memory_server(conf(milter)) as server:
            client = await begun(server)
            reply = await client.message("a@example.org", ["you@example.com"], BODY)
            assert reply.code == 451
            assert "\n" not in reply.text
            assert server.messages == []
            assert (await client.command("NOOP")).code == 250  # nothing of the milter was read as a command or reply
            milter.answers = end()
            assert (await sent(client)).startswith("250")
            assert delivered(server).body == BODY


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from("OCHMRTLNBE"),
    st.one_of(
        st.binary(max_size=80), st.sampled_from([b"4", b"a", b"d", b"r", b"t", b"f", b"s", b"p", b"c", b"q\0", b"bx"])
    ),
    st.booleans(),
)
async def test_whatever_it_says_the_client_gets_one_reply_and_the_message_is_whole(
    code: str, data: bytes, framed: bool
) -> None:
    raw = struct.pack(">I", len(data)) + data if framed else data

    def answers(found: str, _data: bytes) -> tuple[bytes, ...]:
        if found == code:
            milter._open[-1].sendall(raw)
            raise OSError
        return (CONTINUE,)

    with milter_program(answers) as milter:
        milter.raw_negotiation = raw if code == "O" else None
        options = 'Policy_Fallback = "continue" Policy_Timeout = 2'
        async with open_memory_server(conf(milter, scope=options)) as server:
            client = server.connect()
            if (await client.read()).code >= 400 or (await client.command("EHLO client.example.org")).code >= 400:
                return
            if (await client.message("a@example.org", ["you@example.com"], BODY)).code == 421:
                return  # the milter said so, and the session is over
            for message in server.messages:
                assert b"hello" in message.body or framed
            assert (await client.command("RSET")).code == 250
            milter.raw_negotiation, milter.answers = None, end()
            assert (await sent(client))[:3] in {"250", "550", "451"}
