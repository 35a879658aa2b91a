"""A transaction: what the messages of a session share, and what each has for itself."""

import pytest
from session_state import open_dialogue

from triosmtp import DISCARD, DeliveryError, Done, Message, Policy, Reject, Session
from triosmtp.delivery import Delivery
from triosmtp.event import MessageAccepted, Refused
from triosmtp.testing import RecordingPolicy, open_memory_server

CONFIGURATION = """
Relay_Domains = ( "example.com" )
ESMTP_Listener { SMTP_Extensions = ( "XCLIENT" "ENHANCEDSTATUSCODES" ) Listen "127.0.0.1:2525" { } }
"""
BODY = b"Subject: x\r\n\r\nx\r\n"


async def test_received_follows_what_the_session_learns() -> None:
    async with open_memory_server(CONFIGURATION) as server:
        client = server.connect(peer="192.0.2.1")
        await client.read()
        for line in ("EHLO one.example", "EHLO one.example", "HELO two.example", "XCLIENT NAME=mail.example.net"):
            await client.command(line)
            if line.startswith("XCLIENT"):
                await client.command("EHLO two.example")
            assert (await client.message("a@example.org", ["b@example.com"], BODY)).code == 250
        await client.command("MAIL FROM:<a@example.org> SMTPUTF8")
        await client.command("RCPT TO:<b@example.com>")
        await client.command("DATA")
        await client.send(BODY + b".\r\n")
        assert (await client.read()).code == 250
        found = [message.trace.replace(b"\r\n", b"") for message in server.messages]
        ids = [event.message for event in server.events if isinstance(event, MessageAccepted)]
    assert [b"id " + name.encode() + b" " in trace for name, trace in zip(ids, found, strict=True)] == [True] * 5
    assert [b"one.example" in trace for trace in found] == [True, True, False, False, False]
    assert [b"with ESMTP " in trace for trace in found] == [True, True, False, True, False]
    assert [b"mail.example.net" in trace for trace in found] == [False, False, False, True, True]
    assert b"with UTF8SMTP " in found[4]


@pytest.mark.parametrize("lines", ["DATA", "BDAT 6 LAST\r\nx: y"])
async def test_a_refusal_of_a_message_is_reported_with_its_context(lines: str) -> None:
    """The octets of BDAT arrive before its refusal is sent."""
    policy = RecordingPolicy({"data": Reject(550, "5.7.1", "no")})
    async with open_dialogue('SMTP_Extensions = ( "CHUNKING" )', policy=policy) as dialogue:
        await dialogue.say("EHLO client", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>", lines)
        [refused] = [event for event in dialogue.events if isinstance(event, Refused)]
        assert (refused.sender, refused.recipients) == ("a@example.org", ("b@example.com",))
        assert refused.message_variables["mailfrom_string"] == "a@example.org"


async def test_a_message_keeps_its_contexts_when_the_session_continues() -> None:
    async with open_memory_server(CONFIGURATION) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO client.example")
        for sender in ("a@example.org", "c@example.org"):
            await client.message(sender, ["b@example.com"], BODY)
        events = [event for event in server.events if isinstance(event, MessageAccepted)]
    for found in (server.messages, events):
        assert [each.message_variables["mailfrom_string"] for each in found] == ["a@example.org", "c@example.org"]
        assert [each.variables["connection_message_count"] for each in found] == ["1", "2"]


@pytest.mark.parametrize(
    ("raised", "code", "answers"),
    [
        (None, 250, {"2xx": 2}),
        (Reject(554, "5.7.1", "no"), 554, {"5xx": 2}),
        (DeliveryError("full", storage=True), 452, {"4xx": 2}),
        (ZeroDivisionError(), 451, {"4xx": 2}),
    ],
)
async def test_the_answers_of_the_only_target_are_counted_for_each_recipient(
    raised: Exception | None, code: int, answers: dict[str, int]
) -> None:
    async def deliver(message: Message) -> None:
        if raised is not None:
            raise raised

    async with open_memory_server(CONFIGURATION, deliver=deliver) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO client.example")
        assert (await client.message("a@example.org", ["b@example.com", "c@example.com"], BODY)).code == code
        [state] = server.service.profiles.targets.states()
    assert state.answers == answers
    assert (state.latency is not None) is (raised is None)


@pytest.mark.parametrize(
    ("answer", "shown"), [("stored as 7\r\n", ("discard:: stored as 7??",)), ("", ()), (True, ()), (None, ())]
)
async def test_what_the_only_target_answers_is_in_the_event(answer: str | None, shown: tuple[str, ...]) -> None:
    class Answering(Delivery):
        def __str__(self) -> str:
            return "discard:"

        async def deliver(self, message: Message) -> str | None:
            return answer

    async with open_memory_server(CONFIGURATION, deliver=Answering()) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO client.example")
        assert (await client.message("a@example.org", ["b@example.com"], BODY)).code == 250
        [event] = [each for each in server.events if isinstance(each, MessageAccepted)]
    assert event.answers == shown


async def test_a_message_that_a_policy_discards_is_no_answer_of_the_target() -> None:
    class Discarding(Policy):
        async def validate_data_spool(self, session: Session, message: Message) -> Done:
            return DISCARD

    async with open_memory_server(CONFIGURATION, policy=Discarding()) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO client.example")
        assert (await client.message("a@example.org", ["b@example.com"], BODY)).code == 250
        [state] = server.service.profiles.targets.states()
    assert (state.answers, state.latency) == ({}, None)
