"""A server on memory streams: only the sockets are replaced."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from ipaddress import ip_address

import trio
import trio.testing
from attrs import define, field, frozen

from triosmtp.auth import MockKey
from triosmtp.config import Config, parse_config
from triosmtp.delivery import Delivery
from triosmtp.event import ServerEvent
from triosmtp.limits.timeouts import watch
from triosmtp.message import Message
from triosmtp.policy import Policy
from triosmtp.server.acceptor import Acceptor
from triosmtp.server.local_sessions import LocalSessions
from triosmtp.server.service import Service
from triosmtp.server.startup import open_service
from triosmtp.sockets.peer import Peer
from triosmtp.testing.scripted_client import ScriptedClient

__all__ = ["MemoryServer", "ReceivedMessage", "open_memory_server"]


@frozen(slots=True)
class ReceivedMessage:
    """A delivered message, as a test checks it."""

    sender: str
    recipients: tuple[str, ...]
    trace: bytes
    body: bytes
    variables: dict[str, str]
    message_variables: dict[str, str]


class _WholeSends(trio.abc.SendStream):
    """A memory stream on which a cancelled send loses nothing, as on a socket."""

    def __init__(self, stream: trio.abc.SendStream) -> None:
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with trio.CancelScope(shield=True):
            await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


@define(slots=True, eq=False)
class MemoryServer:
    """A running server without sockets."""

    service: Service
    nursery: trio.Nursery
    messages: list[ReceivedMessage]
    """The delivered messages, unless the test has its own delivery."""
    events: list[ServerEvent]
    """Every event of every session."""
    _acceptor: Acceptor = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._acceptor = Acceptor(self.service, self.nursery)

    def connect(self, *, peer: str = "192.0.2.1", listen: str | None = None) -> ScriptedClient:
        """Connect from the address ``peer`` to the Listen with the name ``listen``, by default to the first one.

        The banner is not read yet.  A peer in Proxy_Protocol sends its PROXY header first.
        """
        listens = self.service.config.listens
        chosen = next(item for item in listens if listen in {None, item.name})
        stream, theirs = trio.testing.memory_stream_pair()
        ours = trio.StapledStream(_WholeSends(stream.send_stream), stream.receive_stream)
        text = f"[{peer}]:1024" if ":" in peer else f"{peer}:1024"
        self._acceptor.accept(chosen, ours, Peer(text, ip_address(peer), 1024), "memory")
        return ScriptedClient(theirs)


@asynccontextmanager
async def open_memory_server(
    configuration: str | Config,
    *,
    policy: Policy | Iterable[Policy] | None = None,
    deliver: Delivery | Callable[[Message], Awaitable[None]] | None = None,
    use_deliver_to: bool = False,
) -> AsyncIterator[MemoryServer]:
    """Serve ``configuration`` on memory streams until the block ends.  Then every session is cancelled.

    Messages are collected, unless ``deliver`` takes them, or the targets of Deliver_To (``use_deliver_to``).

    :raises ConfigError: as :func:`triosmtp.serve` does.
    """
    config = parse_config(configuration) if isinstance(configuration, str) else configuration
    events: list[ServerEvent] = []
    messages: list[ReceivedMessage] = []

    async def collect(message: Message) -> None:
        messages.append(as_received(message))

    service = await open_service(
        config,
        policy=policy,
        deliver=None if use_deliver_to else deliver or collect,
        observers=(events.append,),
        mock_key=MockKey(),
    )
    service.hub.attach(LocalSessions(service))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch, service.running)
        await nursery.start(service.hub.run)
        service.profiles.start(nursery)
        yield MemoryServer(service, nursery, messages, events)
        nursery.cancel_scope.cancel()
    await service.profiles.aclose()


def as_received(message: Message) -> ReceivedMessage:
    """Return ``message`` as a test checks it."""
    with message.body.open() as reader:
        body = reader.read()
    envelope = message.envelope
    return ReceivedMessage(
        str(envelope.sender),
        tuple(str(recipient) for recipient in envelope.recipients),
        message.trace,
        body,
        dict(message.variables),
        dict(message.message_variables),
    )
