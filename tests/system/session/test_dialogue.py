"""Sessions on memory streams, from the banner to the last reply."""

import pytest
from memory_dialogue import conf, hello

from triosmtp import DONE, Address, Message, Policy, Reject, Session
from triosmtp.event import Connected, MessageRefused
from triosmtp.testing import RecordingPolicy, open_memory_server

REFUSAL = Reject(550, "5.7.9", "not today", reason="it is Sunday")


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


async def test_a_policy_that_clears_the_context_does_not_change_the_trace() -> None:
    class Forgetful(RecordingPolicy):
        async def validate_data_spool(self, session, message):  # type: ignore[no-untyped-def]  # as in the base
            session.variables.clear()

    async with open_memory_server(conf(), policy=Forgetful()) as server:
        client = await hello(server)
        assert (await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")).code == 250
    assert server.messages[0].trace.startswith(b"Received: from client.example.org (")
    assert b" with ESMTP\r\n" in server.messages[0].trace


async def test_a_bare_line_feed_is_refused_and_the_session_continues() -> None:
    async with open_memory_server(conf()) as server:
        client = await hello(server)
        answer = await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\none\ntwo\r\n")
        assert str(answer)[:10] == "550 5.6.11"
        assert (await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")).code == 250
    refused = [e for e in server.events if isinstance(e, MessageRefused)]
    assert [(e.code, e.decided_by) for e in refused] == [(550, "protocol")]


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


async def test_received_has_the_name_of_the_client_that_policy_knows_for_the_message() -> None:
    class Name(Policy):
        async def validate_mailfrom(self, session: Session, sender: Address, parameters: object) -> None:
            session.variables["client_name"] = sender.domain

    async with open_memory_server(conf(), policy=Name()) as server:
        client = await hello(server)
        for name in ("one.example", "two.example"):
            assert (await client.message(f"a@{name}", ["b@example.com"], b"x: y\r\n\r\n")).code == 250
    assert [
        f"({name} [192.0.2.1])".encode() in message.trace
        for name, message in zip(("one.example", "two.example"), server.messages, strict=True)
    ] == [True, True]


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
