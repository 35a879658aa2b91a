"""The phases that policies decide: their order, their arguments, and the reply."""

import pytest
from memory_dialogue import conf, hello

from triosmtp import Reject
from triosmtp.event import Disconnected, MessageRefused, PolicyFailed, Refused
from triosmtp.testing import RecordingPolicy, open_memory_server


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
