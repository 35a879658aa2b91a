"""A policy that does nothing changes nothing: every phase has a way without policies, and a way that waits for them."""

from collections.abc import Mapping
from contextlib import suppress
from itertools import pairwise
from typing import Any

import attrs
import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st

from triosmtp import Message, Policy, Reject, Session
from triosmtp.policy import PHASES, Phase
from triosmtp.testing import open_memory_server

CONFIGURATION = """
Relay_Domains = ( "example.com" )
Context = [ colour = "blue" ]
Max_Receptions_Per_Connection = 2
Max_Recipients_Per_Message = 1
Max_Refused_Recipients = 3
Max_Command_Errors = 6
Max_Junk_Commands = 8
ESMTP_Listener {
  SMTP_Extensions = ( "CHUNKING" "SMTPUTF8" "8BITMIME" "SIZE" "PIPELINING" "ENHANCEDSTATUSCODES" )
  Peer "192.0.2.1" { SMTP_Extensions = ( "CHUNKING" "PIPELINING" "SIZE" "ENHANCEDSTATUSCODES" "XCLIENT" ) }
  Peer "198.51.100.0/24" {
    Max_Recipients_Per_Message = 2
    Max_Receptions_Per_Connection = 3
    Relay_Domains = ( "foreign.example" )
  }
  Listen ":25" { }
}
"""
LINES = (
    b"EHLO c.example.org",
    b"HELO c",
    b"EHLO",
    b"MAIL FROM:<a@example.org>",
    b"MAIL FROM:<a@example.org> SIZE=100000",
    b"MAIL FROM:<> SIZE=99999999999",
    b"MAIL FROM:<a@example.org> FOO=1",
    b"RCPT TO:<b@example.com>",
    b"RCPT TO:<c@example.com>",
    b"RCPT TO:<b@foreign.example>",
    b"RCPT TO:<reject@example.com>",
    b"DATA",
    b"x: y\r\n\r\nbody\r\n.",
    b"DATA\r\nx: y\r\n\r\nbody\r\n.",
    b"DATA\r\nx: \r\r\n.",
    b"BDAT 4\r\nx: y",
    b"BDAT 2 LAST\r\n\r",
    b"BDAT 0",
    b"RSET",
    b"NOOP",
    b"VRFY x",
    b"STARTTLS",
    b"XCLIENT ADDR=198.51.100.7 HELO=other PROTO=ESMTP",
    b"XCLIENT ADDR=192.0.2.9",
    b"FOO",
    b"QUIT",
)
MESSAGE = b"\r\n".join((LINES[3], LINES[7], LINES[13]))
FORBIDDEN = (LINES[3], LINES[9], LINES[7], LINES[8], LINES[8], LINES[18], LINES[5])
ANNOUNCED = LINES[22]


async def wait(_policy: Policy, _session: Session, *_arguments: object) -> None:
    """Wait, and decide nothing."""
    await trio.lowlevel.checkpoint()


Nothing = type("Nothing", (Policy,), {f"validate_{phase}": wait for phase in PHASES})
"""It is asked at every phase."""


async def deliver(message: Message) -> None:
    """Refuse the messages of one recipient."""
    if message.envelope.recipients[0].address.local_part == "reject":
        raise Reject(550, "5.7.1", "not this one")


def plain(value: Any, prefix: str) -> object:
    """Return the fields of an event, without times and without the random part of ids."""
    if isinstance(value, str):
        return value.replace(prefix, "")
    if isinstance(value, Mapping):
        return {key: plain(item, prefix) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item, prefix) for item in value]
    if attrs.has(type(value)):
        fields = attrs.fields(type(value))
        return type(value).__name__, {
            field.name: plain(getattr(value, field.name), prefix) for field in fields if "seconds" not in field.name
        }
    return value


async def talk(pieces: list[bytes], policy: Policy | None, observed: frozenset[Phase]) -> tuple[bytes, object]:
    """Send the pieces one after the other; return the replies, and the events.

    ``observed`` are the phases whose outcomes a policy client wants.
    """
    async with open_memory_server(CONFIGURATION, policy=policy, deliver=deliver) as server:
        service = server.service
        service.hub.outcome_phases = observed
        client = server.connect()
        replies = b""
        with trio.fail_after(30), suppress(trio.BrokenResourceError):  # the server may end the session first
            for piece in pieces:
                await client.send(piece)
                await trio.testing.wait_all_tasks_blocked()
            await client.send(b"\r\n.\r\nQUIT\r\n")
        with trio.move_on_after(1):
            replies = await client.read_eof()
        await client.aclose()
        await trio.testing.wait_all_tasks_blocked()
        prefix = service._id_prefix
        return replies.replace(prefix.encode(), b""), plain(server.events, prefix)


@settings(max_examples=60)
@example([*FORBIDDEN], [], frozenset())
@example([MESSAGE] * 4, [], frozenset(PHASES))
@example([ANNOUNCED, LINES[0], MESSAGE, *FORBIDDEN], [], frozenset(PHASES))
@given(
    lines=st.lists(st.sampled_from([*LINES, MESSAGE, MESSAGE]), max_size=20),
    cuts=st.lists(st.integers(0, 400), max_size=4),
    observed=st.frozensets(st.sampled_from(PHASES)),
)
def test_a_policy_that_does_nothing_changes_nothing(
    lines: list[bytes], cuts: list[int], observed: frozenset[Phase]
) -> None:
    data = b"EHLO c.example.org\r\n" + b"".join(line + b"\r\n" for line in lines)
    bounds = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[start:end] for start, end in pairwise(bounds)]
    without = trio.run(talk, pieces, None, frozenset())
    assert trio.run(talk, pieces, Nothing(), frozenset()) == without
    assert trio.run(talk, pieces, None, observed) == without
