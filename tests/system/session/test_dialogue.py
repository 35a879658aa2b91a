"""Sessions on memory streams, from the banner to the last reply."""

from typing import NoReturn

import pytest
import trio.testing

from triosmtp import DONE, Body, Message, Policy, Reject, Session
from triosmtp.event import Connected, Disconnected, MessageAccepted, MessageRefused, PolicyFailed, Refused
from triosmtp.policy import PHASES
from triosmtp.testing import MemoryServer, RecordingPolicy, ScriptedClient, open_memory_server

PLAIN = """
Relay_Domains = ( "example.com" "*.example.net" )
Banner_Hostname = "mx.example.com"
ESMTP_Listener { Listen ":25" { %s } }
"""


def conf(options: str = "") -> str:
    return PLAIN % options


async def hello(server: MemoryServer, **where: str) -> ScriptedClient:
    client = server.connect(**where)
    assert (await client.read()).code == 220
    assert (await client.command("EHLO client.example.org")).code == 250
    return client


async def test_a_message_from_banner_to_quit() -> None:
    async with open_memory_server(conf()) as server:
        client = server.connect()
        assert str(await client.read()) == "220 mx.example.com ESMTP"
        answer = await client.command("EHLO client.example.org")
        assert answer.lines[0].startswith("mx.example.com")
        assert set(answer.lines[1:]) == {"PIPELINING", "8BITMIME", "SIZE 52428800", "SMTPUTF8", "ENHANCEDSTATUSCODES"}
        assert (await client.command("MAIL FROM:<me@example.org> SIZE=20")).text.startswith("2.1.0")
        assert (await client.command("RCPT TO:<you@example.com>")).text.startswith("2.1.5")
        assert (await client.command("DATA")).code == 354
        await client.send(b"Subject: hi\r\n\r\n..dot\r\n.\r\n")
        final = await client.read()
        assert final.code == 250
        assert final.text.startswith("2.0.0 Ok: queued as ")
        assert (await client.command("QUIT")).code == 221
        assert await client.read_eof() == b""
    [message] = server.messages
    assert message.body == b"Subject: hi\r\n\r\n.dot\r\n"
    assert message.sender == "me@example.org"
    assert message.recipients == ("you@example.com",)
    assert message.trace.startswith(b"Received: from client.example.org (")
    assert b"for <you@example.com>" in message.trace
    assert message.variables["ehlo_string"] == "EHLO client.example.org"
    assert message.variables["ehlo_domain"] == "client.example.org"
    assert message.variables["connection_message_count"] == "1"
    assert message.variables["message_rcpt_count"] == "1"
    assert message.message_variables == {
        "mailfrom_string": "me@example.org",
        "mailfrom_localpart": "me",
        "mailfrom_domain": "example.org",
        "rcptto_string": "you@example.com",
        "rcptto_localpart": "you",
        "rcptto_domain": "example.com",
        "rfc2822_date_missing": "true",
    }
    assert "tls" not in message.variables
    accepted = [e for e in server.events if isinstance(e, MessageAccepted)]
    assert [(e.message, e.size) for e in accepted] == [(final.text.rpartition(" ")[2], len(message.body))]
    assert [e.reason for e in server.events if isinstance(e, Disconnected)] == ["quit"]


async def test_a_pipelined_group_is_answered_in_order() -> None:
    async with open_memory_server(conf()) as server:
        client = await hello(server)
        await client.send(
            b"MAIL FROM:<a@example.org>\r\nRCPT TO:<x@elsewhere.example>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"
        )
        assert [(await client.read()).code for _ in range(4)] == [250, 550, 250, 354]
        await client.send(b"x: y\r\n\r\n.\r\nMAIL FROM:<>\r\nRSET\r\nQUIT\r\n")
        assert [(await client.read()).code for _ in range(4)] == [250, 250, 250, 221]
    assert server.messages[0].recipients == ("b@example.com",)


async def test_every_phase_is_asked_in_order_with_its_arguments() -> None:
    policy = RecordingPolicy()
    async with open_memory_server(conf(), policy=policy) as server:
        client = await hello(server)
        await client.message("a@example.org", ["x@example.com", "y@example.com"], b"Date: now\r\n\r\nbody\r\n")
    assert policy.phases == [
        "connect", "ehlo", "mailfrom", "rcptto", "rcptto", "data",
        "data_spool", "data_spool_each_rcpt", "data_spool_each_rcpt",
    ]  # fmt: skip
    assert policy.calls[1][1] == ("client.example.org",)
    assert str(policy.calls[2][1][0]) == "a@example.org"
    assert policy.calls[2][2]["mailfrom_domain"] == "example.org"
    assert policy.calls[4][2]["message_rcpt_count"] == "1"
    assert "rfc2822_date_missing" not in policy.calls[6][2]


REFUSAL = Reject(550, "5.7.9", "not today", reason="it is Sunday")


@pytest.mark.parametrize("phase", ["ehlo", "mailfrom", "rcptto", "data", "data_spool", "data_spool_each_rcpt"])
async def test_a_refusal_is_the_reply_of_its_phase_and_the_session_continues(phase: str) -> None:
    policy = RecordingPolicy({phase: REFUSAL})  # type: ignore[dict-item]  # a phase as text
    async with open_memory_server(conf(), policy=policy) as server:
        client = server.connect()
        await client.read()
        answer = await client.command("EHLO c.example.org")
        if phase != "ehlo":
            answer = await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")
        text = "not today" if phase == "ehlo" else "5.7.9 not today"
        assert (answer.code, answer.lines) in {(550, (text,)), (550, (f"5.7.9 {text}",))}
        assert policy.phases[-1] == phase
        policy.answers.clear()
        assert (await client.command("EHLO c.example.org")).code == 250
        assert (await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")).code == 250
        assert (await client.command("QUIT")).code == 221
    told = [e for e in server.events if isinstance(e, Refused | MessageRefused)]
    assert [(e.decided_by, e.reason, e.code) for e in told] == [("python:RecordingPolicy", "it is Sunday", 550)]
    assert len(server.messages) == 1


async def test_a_refused_ehlo_leaves_the_transaction_alone() -> None:
    policy = RecordingPolicy()
    async with open_memory_server(conf(), policy=policy) as server:
        client = await hello(server)
        await client.command("MAIL FROM:<a@example.org>")
        policy.answers["ehlo"] = REFUSAL
        assert (await client.command("EHLO other.example.org")).code == 550
        assert (await client.command("RCPT TO:<b@example.com>")).code == 250


async def test_a_refusal_at_connect_replaces_the_banner() -> None:
    policy = RecordingPolicy({"connect": Reject(554, "5.7.1", "no service for you")})
    async with open_memory_server(conf(), policy=policy) as server:
        client = server.connect()
        assert (await client.read()).code == 554
        assert (await client.command("EHLO x")).code == 503
        assert (await client.command("MAIL FROM:<a@example.org>")).code == 503
        assert (await client.command("QUIT")).code == 221
    assert "ehlo" not in policy.phases


async def test_421_from_a_policy_ends_the_session() -> None:
    policy = RecordingPolicy({"mailfrom": Reject(421, "4.7.0", "come back later")})
    async with open_memory_server(conf(), policy=policy) as server:
        client = await hello(server)
        assert (await client.command("MAIL FROM:<a@example.org>")).code == 421
        assert await client.read_eof() == b""
    assert [e.reason for e in server.events if isinstance(e, Disconnected)] == ["refused"]


async def test_a_policy_that_fails_is_451_and_the_session_goes_on() -> None:
    policy = RecordingPolicy({"mailfrom": KeyError("secret detail")})
    async with open_memory_server(conf(), policy=policy) as server:
        client = await hello(server)
        answer = await client.command("MAIL FROM:<a@example.org>")
        assert (answer.code, answer.text[:5]) == (451, "4.3.0")
        assert "secret" not in answer.text
        assert (await client.command("NOOP")).code == 250
    assert [e.phase for e in server.events if isinstance(e, PolicyFailed)] == ["mailfrom"]


async def test_variables_that_policy_writes_reach_later_phases_and_the_message_context_is_emptied() -> None:
    class Writer(RecordingPolicy):
        async def validate_ehlo(self, session, domain):  # type: ignore[no-untyped-def]  # as in the base
            session.variables["partner"] = "acme"
            with pytest.raises(KeyError):
                session.variables["tls_client_verified"] = "yes"

        async def validate_mailfrom(self, session, sender, parameters):  # type: ignore[no-untyped-def]  # as in the base
            assert "mark" not in session.message_variables
            session.message_variables["mark"] = str(sender)

    async with open_memory_server(conf(), policy=Writer()) as server:
        client = await hello(server)
        for sender in ("a@example.org", "b@example.org"):
            assert (await client.message(sender, ["c@example.com"], b"x: y\r\n\r\n")).code == 250
    assert [m.message_variables["mark"] for m in server.messages] == ["a@example.org", "b@example.org"]
    assert [m.variables["partner"] for m in server.messages] == ["acme", "acme"]


async def test_context_and_pathway_fill_the_connection_context() -> None:
    text = 'Pathway "in" { Relay_Domains = ( "in.example" ) }\n' + conf('Pathway = "in" Context = [ colour = blue ]')
    async with open_memory_server(text) as server:
        client = await hello(server)
        assert (await client.message("a@example.org", ["c@in.example"], b"x: y\r\n\r\n")).code == 250
    assert server.messages[0].variables["colour"] == "blue"
    assert server.messages[0].variables["pathway"] == "in"


@pytest.mark.parametrize(
    ("options", "recipient", "accepted"),
    [
        ("", "a@example.com", True),
        ("", "a@EXAMPLE.com", True),
        ("", "a@sub.example.net", True),
        ("", "a@example.net", False),
        ("", "a@elsewhere.example", False),
        ("", "postmaster", True),
        ("Open_Relay = true", "a@elsewhere.example", True),
        ('Relay_Hosts = ( "192.0.2.0/24" )', "a@elsewhere.example", True),
        ('Relay_Hosts = ( "198.51.100.0/24" )', "a@elsewhere.example", False),
        ('Relay_For_Sending_Domains = ( "example.org" )', "a@elsewhere.example", True),
        ('Relay_For_Sending_Domains = ( "example.edu" )', "a@elsewhere.example", False),
        ('Peer "192.0.2.0/24" { Open_Relay = true }', "a@elsewhere.example", True),
        ('Peer "198.51.100.0/24" { Open_Relay = true }', "a@elsewhere.example", False),
    ],
)
async def test_relay_rules(options: str, recipient: str, accepted: bool) -> None:
    async with open_memory_server(conf(options)) as server:
        client = await hello(server)
        await client.command("MAIL FROM:<a@example.org>")
        answer = await client.command(f"RCPT TO:<{recipient}>")
        assert str(answer)[:9] == ("250 2.1.5" if accepted else "550 5.7.1")
        if not accepted:
            assert "relaying denied" in answer.text


async def test_a_sending_domain_gives_no_right_to_the_next_sender() -> None:
    async with open_memory_server(conf('Relay_For_Sending_Domains = ( "example.org" )')) as server:
        client = await hello(server)
        assert (await client.message("a@example.org", ["x@elsewhere.example"], b"x: y\r\n\r\n")).code == 250
        assert (await client.message("a@example.edu", ["x@elsewhere.example"], b"x: y\r\n\r\n")).code == 550
    assert server.messages[0].variables["can_relay"] == "true"


async def test_policy_may_grant_relaying() -> None:
    class Grant(RecordingPolicy):
        async def validate_connect(self, session):  # type: ignore[no-untyped-def]  # as in the base
            session.variables["can_relay"] = "true"

    async with open_memory_server(conf(), policy=Grant()) as server:
        client = await hello(server)
        assert (await client.message("a@example.org", ["x@elsewhere.example"], b"x: y\r\n\r\n")).code == 250


async def test_done_at_rcptto_does_not_waive_the_relay_rules() -> None:
    async with open_memory_server(conf(), policy=RecordingPolicy({"rcptto": DONE})) as server:
        client = await hello(server)
        assert (await client.message("a@example.org", ["x@elsewhere.example"], b"x: y\r\n\r\n")).code == 550


@pytest.mark.parametrize(
    ("options", "codes"),
    [
        ("Max_Recipients_Per_Message = 2", [250, 250, 452]),
        ("Max_Recipients_Per_Connection = 2", [250, 250, 421]),
    ],
)
async def test_recipient_limits(options: str, codes: list[int]) -> None:
    async with open_memory_server(conf(options)) as server:
        client = await hello(server)
        await client.command("MAIL FROM:<a@example.org>")
        assert [(await client.command(f"RCPT TO:<u{i}@example.com>")).code for i in range(3)] == codes


async def test_a_transaction_without_a_body_is_no_reception() -> None:
    async with open_memory_server(conf("Max_Receptions_Per_Connection = 1")) as server:
        client = await hello(server)
        for _ in range(3):
            await client.command("MAIL FROM:<a@example.org>")
            assert (await client.command("RCPT TO:<x@elsewhere.example>")).code == 550
            await client.command("RSET")
        assert (await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")).code == 250
    assert server.messages[0].variables["connection_message_count"] == "1"
    assert [e.messages for e in server.events if isinstance(e, Disconnected)] == [1]


async def test_a_policy_that_clears_the_context_does_not_change_the_trace() -> None:
    class Forgetful(RecordingPolicy):
        async def validate_data_spool(self, session, message):  # type: ignore[no-untyped-def]  # as in the base
            session.variables.clear()

    async with open_memory_server(conf(), policy=Forgetful()) as server:
        client = await hello(server)
        assert (await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")).code == 250
    assert server.messages[0].trace.startswith(b"Received: from client.example.org (")
    assert b" with ESMTP\r\n" in server.messages[0].trace


async def test_session_limits_hold_in_memory_too() -> None:
    async with open_memory_server(conf("Listener_Sessions = 1")) as server:
        first = await hello(server)
        assert str(await server.connect().read()) == "421 Too many connections, try again later"
        assert (await first.command("QUIT")).code == 221
        await first.read_eof()
        await trio.testing.wait_all_tasks_blocked()  # the end of a session counts when all of it has ended
        await hello(server)
        assert server.service.statistics.sessions_total == 2


async def test_what_is_no_policy_and_no_delivery_is_an_error_at_once() -> None:
    with pytest.raises(TypeError, match="instances, not <class"):
        await open_memory_server(conf(), policy=RecordingPolicy).__aenter__()  # type: ignore[arg-type]  # the mistake
    with pytest.raises(TypeError, match="not 'discard:'"):
        await open_memory_server(conf(), deliver="discard:").__aenter__()  # type: ignore[arg-type]  # the mistake


async def test_reception_limit() -> None:
    async with open_memory_server(conf("Max_Receptions_Per_Connection = 2")) as server:
        client = await hello(server)
        for _ in range(2):
            assert (await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")).code == 250
        assert (await client.command("MAIL FROM:<a@example.org>")).code == 421
        assert await client.read_eof() == b""


async def test_a_message_over_the_size_is_552_after_its_end_and_no_line_of_it_is_a_command() -> None:
    async with open_memory_server(conf("Max_Message_Size = 1000")) as server:
        client = await hello(server)
        answer = await client.message("a@example.org", ["b@example.com"], b"RSET\r\nQUIT\r\n" * 200)
        assert str(answer)[:9] == "552 5.3.4"
        assert (await client.command("NOOP")).code == 250
    assert server.messages == []


async def test_a_bare_line_feed_is_refused_and_the_session_continues() -> None:
    async with open_memory_server(conf()) as server:
        client = await hello(server)
        answer = await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\none\ntwo\r\n")
        assert str(answer)[:10] == "550 5.6.11"
        assert (await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")).code == 250
    refused = [e for e in server.events if isinstance(e, MessageRefused)]
    assert [(e.code, e.decided_by) for e in refused] == [(550, "protocol")]


async def test_a_delivery_may_refuse() -> None:
    async def refuse(message: object) -> None:
        raise Reject(554, "5.6.0", "no such format")

    async with open_memory_server(conf(), deliver=refuse) as server:
        client = await hello(server)
        answer = await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")
        assert str(answer) == "554 5.6.0 no such format"


async def test_a_delivery_that_breaks_is_451() -> None:
    async def broken(message: object) -> None:
        raise RuntimeError("secret path")

    async with open_memory_server(conf(), deliver=broken) as server:
        client = await hello(server)
        answer = await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")
        assert str(answer)[:9] == "451 4.3.0"
        assert "secret" not in str(answer)
        assert (await client.command("NOOP")).code == 250


@pytest.mark.parametrize("fails", ["make_question", "hub.report_outcome", "MessageAccepted", "observer", "body.close"])
async def test_an_error_after_a_delivery_does_not_change_its_250(
    fails: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_arguments: object, **_more: object) -> NoReturn:
        raise RuntimeError("broken")

    async def deliver(message: Message) -> None:
        delivered.append(message.id)
        if fails == "body.close":
            monkeypatch.setattr(type(message.body), "close", close_and_fail)

    close = Body.close

    def close_and_fail(body: Body) -> NoReturn:
        close(body)
        raise RuntimeError("broken")

    delivered: list[str] = []
    async with open_memory_server(conf(), deliver=deliver) as server:
        server.service.hub.outcome_phases = frozenset(
            PHASES if fails in {"make_question", "hub.report_outcome"} else ()
        )
        if fails == "make_question":
            monkeypatch.setattr("triosmtp.server.session.policy_phase.make_question", fail)
        elif fails == "hub.report_outcome":
            monkeypatch.setattr(server.service.hub, "report_outcome", fail)
        elif fails == "MessageAccepted":
            monkeypatch.setattr("triosmtp.server.session.transaction.MessageAccepted", fail)
        elif fails == "observer":
            server.service.observers.add(fail)
        client = server.connect()
        await client.read()
        await client.command("EHLO x")
        for _ in range(2):
            await client.command("MAIL FROM:<a@example.org>")
            await client.command("RCPT TO:<b@example.com>")
            await client.command("DATA")
            await client.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
            assert (await client.read()).code == 250
        assert (await client.command("QUIT")).code == 221
    assert len(delivered) == 2
    assert any(record.exc_info for record in caplog.records)  # and it is logged


async def test_idle_sessions_end_with_421(autojump_clock: object) -> None:
    async with open_memory_server(conf("Idle_Time = 60")) as server:
        client = await hello(server)
        assert str(await client.read()).startswith("421 4.4.2")
        assert await client.read_eof() == b""
    assert [e.reason for e in server.events if isinstance(e, Disconnected)] == ["idle"]


async def test_enhanced_codes_are_off_where_they_are_not_listed() -> None:
    async with open_memory_server(conf("SMTP_Extensions = ( )")) as server:
        client = await hello(server)
        assert str(await client.command("NOOP")) == "250 Ok"


async def test_a_static_banner_holds_its_own_code() -> None:
    async with open_memory_server(conf('Static_Banner = "220 welcome to nowhere"')) as server:
        assert str(await server.connect().read()) == "220 welcome to nowhere"


async def test_the_longest_static_banner_is_sent_whole() -> None:
    banner = "220 " + "x" * 480
    async with open_memory_server(conf(f'Static_Banner = "{banner}"')) as server:
        assert str(await server.connect().read()) == banner


async def test_a_refused_ehlo_leaves_the_variables_of_the_one_before() -> None:
    policy = RecordingPolicy({"ehlo": REFUSAL})
    async with open_memory_server(conf(), policy=policy) as server:
        client = server.connect()
        await client.read()
        assert (await client.command("EHLO first.example.org")).code == 550
        assert (await client.command("MAIL FROM:<a@example.org>")).code == 250
        assert "ehlo_domain" not in policy.calls[-1][2]
        assert "ehlo_string" not in policy.calls[-1][2]
        policy.answers.clear()
        assert (await client.command("HELO second.example.org")).code == 250
        policy.answers["ehlo"] = REFUSAL
        assert (await client.command("EHLO third.example.org")).code == 550
        assert policy.calls[-1][2]["ehlo_domain"] == "third.example.org"  # what it decides about, it sees
        assert (await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")).code == 250
    [message] = server.messages
    assert message.variables["ehlo_string"] == "HELO second.example.org"
    assert message.variables["ehlo_domain"] == "second.example.org"
    assert b" with SMTP\r\n" in message.trace


async def test_a_peer_that_disconnects_without_quit_is_reported_so() -> None:
    async with open_memory_server(conf()) as server:
        client = await hello(server)
        await client.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert [e.reason for e in server.events if isinstance(e, Disconnected)] == ["peer_closed"]


async def test_header_fields_that_policy_adds_stand_behind_received() -> None:
    class Marking(Policy):
        async def validate_data_spool(self, session: Session, message: Message) -> None:
            message.trace += b"X-Marked: yes\r\n"

    async with open_memory_server(conf(), policy=Marking()) as server:
        client = await hello(server)
        assert (await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")).code == 250
    [message] = server.messages
    assert message.trace.startswith(b"Received: ")
    assert message.trace.endswith(b"\r\nX-Marked: yes\r\n")


async def test_a_message_that_is_kept_keeps_its_variables() -> None:
    kept: list[Message] = []

    async def keep(message: Message) -> None:
        kept.append(message)

    async with open_memory_server(conf(), deliver=keep) as server:
        client = await hello(server)
        await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")
        await client.message("z@example.org", ["c@example.com"], b"x: y\r\n\r\n")
    assert [m.message_variables["mailfrom_string"] for m in kept] == ["a@example.org", "z@example.org"]
    assert [m.variables["connection_message_count"] for m in kept] == ["1", "2"]


async def test_a_peer_is_written_as_on_a_socket() -> None:
    async with open_memory_server(conf()) as server:
        await hello(server, peer="2001:db8::7")
        await hello(server, peer="192.0.2.7")
        assert [e.session.peer for e in server.events if isinstance(e, Connected)] == [
            "[2001:db8::7]:1024",
            "192.0.2.7:1024",
        ]
