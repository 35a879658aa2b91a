"""DISCARD at every phase, and header fields that policies add."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triosmtp import DISCARD, Policy, Session
from triosmtp.event import MessageAccepted
from triosmtp.policy import Phase
from triosmtp.testing import RecordingPolicy, open_memory_server

CONFIGURATION = 'Relay_Domains = ( "example.com" ) ESMTP_Listener { Listen ":25" { } }'
BODY = b"Subject: x\r\n\r\nhello\r\n"


@pytest.mark.parametrize(
    "phase", ["connect", "ehlo", "mailfrom", "rcptto", "data", "data_spool", "data_spool_each_rcpt"]
)
async def test_a_discarded_message_is_acknowledged_and_goes_nowhere(phase: Phase) -> None:
    policy = RecordingPolicy({phase: DISCARD})
    async with open_memory_server(CONFIGURATION, policy=policy) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO client.example.org")
        for _ in range(2):
            assert (await client.message("a@example.org", ["you@example.com", "me@example.com"], BODY)).code == 250
        policy.answers.clear()
        assert (await client.message("a@example.org", ["you@example.com"], BODY)).code == 250
        told = [event.discarded_by for event in server.events if isinstance(event, MessageAccepted)]
        before_mail = phase in {"connect", "ehlo"}  # that is about every message of the session
        assert told == ["python:RecordingPolicy"] * 2 + ["python:RecordingPolicy" if before_mail else ""]
        assert len(server.messages) == (0 if before_mail else 1)


async def test_a_discard_at_a_second_ehlo_is_about_every_later_message() -> None:
    """EHLO ends the message under way, so that a discard of that message alone would be lost."""
    policy = RecordingPolicy()
    async with open_memory_server(CONFIGURATION, policy=policy) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO client.example.org")
        await client.command("MAIL FROM:<a@example.org>")
        policy.answers["ehlo"] = DISCARD
        assert (await client.command("EHLO client.example.org")).code == 250
        assert (await client.message("a@example.org", ["you@example.com"], BODY)).code == 250
        assert server.messages == []


class Adding(Policy):
    async def validate_connect(self, session: Session) -> None:
        session.add_header("X-Session", "1")

    async def validate_mailfrom(self, session: Session, *_: Any) -> None:
        session.add_header("X-Message", str(session.envelope))

    async def validate_rcptto(self, session: Session, *_: Any) -> None:
        session.add_header("X-Hostile", "a\r\nBcc: everybody\x00")


async def test_header_fields_are_of_the_session_or_of_the_message() -> None:
    async with open_memory_server(CONFIGURATION, policy=Adding()) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO client.example.org")
        for _ in range(2):
            assert (await client.message("a@example.org", ["you@example.com"], BODY)).code == 250
        for message in server.messages:
            assert message.trace.count(b"\r\nX-Session: 1\r\n") == 1
            assert message.trace.count(b"\r\nX-Message: None\r\n") == 1
            assert message.trace.count(b"\r\nX-Hostile: a??Bcc: everybody?\r\n") == 1


@given(st.text())
def test_what_is_no_name_of_a_field_is_refused(name: str) -> None:
    session = Session(id="s", listener="l", peer="p", peer_address=None, local="")
    if name.isascii() and 0 < len(name) <= 76 and all(33 <= ord(c) <= 126 and c != ":" for c in name):
        session.add_header(name, "x")
    else:
        with pytest.raises(ValueError, match="is not the name"):
            session.add_header(name, "x")
