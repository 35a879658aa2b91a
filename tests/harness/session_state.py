"""The state of a session without a stream: for tests of handlers, restrictions and state alone."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from ipaddress import ip_address

from attrs import define

from triosmtp import Policy
from triosmtp.event import ServerEvent
from triosmtp.policy import Session
from triosmtp.server.session.handlers import HANDLERS, connect, greet
from triosmtp.server.session.state import SessionState
from triosmtp.smtp import NEED_DATA
from triosmtp.testing import open_memory_server

__all__ = ["Dialogue", "open_dialogue"]


@define(eq=False)
class Dialogue:
    """A session whose input is given to its handlers directly."""

    state: SessionState
    events: list[ServerEvent]

    async def say(self, *lines: str | bytes) -> list[str]:
        """Handle lines, each with CRLF added; return the replies."""
        state, replies = self.state, []
        state.connection.receive_data(b"".join((x.encode() if isinstance(x, str) else x) + b"\r\n" for x in lines))
        while (event := state.connection.next_event()) is not NEED_DATA:
            answer = HANDLERS[type(event)](state, event)
            assert answer is not None
            reply = answer if isinstance(answer, bytes) else await answer
            replies += [reply.decode().rstrip("\r\n")] if reply else []
        return replies


@asynccontextmanager
async def open_dialogue(
    options: str, *, peer: str = "192.0.2.1", policy: Policy | Iterable[Policy] | None = None
) -> AsyncIterator[Dialogue]:
    """Begin a session of ``peer`` up to its banner; ``options`` are those of the only listener."""
    text = f'Relay_Domains = ( "example.com" ) ESMTP_Listener {{ {options} Listen "127.0.0.1:2525" {{ }} }}'
    async with open_memory_server(text, policy=policy) as server:
        service, address = server.service, ip_address(peer)
        listen = service.config.listens[0]
        profile = service.profiles.of(listen, service.config.resolve(listen, address))
        session = Session(id="1", listener=listen.name, peer=f"{peer}:1024", peer_address=address, local="memory")
        state = SessionState(service, listen, profile, session, lambda: False)
        greet(state, await connect(state), "connect")
        yield Dialogue(state, server.events)
        state.end_transaction()
