"""A session that has ended is freed at once: it holds buffers and a TLS context, and the collector runs much later."""

import gc
import weakref
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from triosmtp import Message, Policy, Reject, Session
from triosmtp.server.session.driver import SMTPSession
from triosmtp.smtp import Address
from triosmtp.testing import open_memory_server

CONFIGURATION = """
Relay_Domains = ( "example.com" )
Max_Received_Headers = 1
Spool_Max_Size = 1024
ESMTP_Listener {
  SMTP_Extensions = ( "CHUNKING" "AUTH PLAIN" ) Always_Deny = true Allow_Plaintext_Auth = true Auth_Failure_Delay = 0.01
  Listen ":25" { }
}
"""
TO_US = (b"MAIL FROM:<a@example.org>", b"RCPT TO:<b@example.com>")
LARGE = b"\r\n".join([b"x" * 900] * 200)


class Refusing(Policy):
    """Refuses one recipient, one header, and every password."""

    async def validate_rcptto(self, session: Session, recipient: Address, parameters: object) -> None:
        if recipient.local_part == "refused":
            raise Reject(550, "5.1.1", "no such recipient")

    async def validate_data_spool(self, session: Session, message: Message) -> None:
        if message.body.headers().startswith(b"spam"):
            raise Reject(550, "5.7.1", "spam")

    async def validate_auth(self, session: Session, attempt: object) -> None:
        raise Reject(535, "5.7.8", "wrong")


async def deliver(message: Message) -> None:
    """Refuse the messages to one recipient."""
    if message.envelope.recipients[0].address.local_part == "undelivered":
        raise Reject(550, "5.7.1", "not this one")


@pytest.fixture
def without_collector() -> Iterator[None]:
    """Turn the garbage collector off."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("policy", [None, Refusing()], ids=["no policy", "a policy"])
@pytest.mark.parametrize(
    "lines",
    [
        (),
        (b"FOO", b"MAIL"),
        (*TO_US, b"DATA", b"x: y", b"."),
        (TO_US[0], b"RCPT TO:<b@foreign.example>"),
        (TO_US[0], b"RCPT TO:<refused@example.com>"),
        (*TO_US, b"DATA", b"spam: y", b"."),
        (*TO_US, b"DATA", b"received: 1", b"received: 2", b"."),
        (*TO_US, b"DATA", b"a lone\rCR", b"."),
        (*TO_US, b"DATA", LARGE, b"."),
        (*TO_US, b"BDAT 40000 LAST\r\n" + b"x" * 40000),
        (TO_US[0], b"RCPT TO:<undelivered@example.com>", b"DATA", b"x: y", b"."),
        (b"AUTH PLAIN AGEAYg==",),
    ],
    ids=lambda lines: repr(lines[-2:])[:40],
)
@pytest.mark.usefixtures("without_collector")
async def test_a_session_is_freed_when_it_ends(policy: Policy | None, lines: tuple[bytes, ...]) -> None:
    async with open_memory_server(CONFIGURATION, policy=policy, deliver=deliver) as server:
        client = server.connect()
        await client.read()
        [running] = server.service.running
        assert isinstance(running, SMTPSession)
        parts: list[weakref.ref[object]] = [weakref.ref(x) for x in (running, running.session, running._state)]
        del running
        await client.send(b"".join(line + b"\r\n" for line in (b"EHLO c.example.org", *lines, b"QUIT")))
        await client.read_eof()
        await trio.testing.wait_all_tasks_blocked()
        assert [part() for part in parts] == [None] * 3
