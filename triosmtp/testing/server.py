"""A server on memory streams: everything is real but the sockets."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from ipaddress import ip_address

import trio
import trio.testing
from attrs import define, frozen

from triosmtp.auth import MockKey
from triosmtp.config import Config, Listen, Settings, parse_config
from triosmtp.delivery import Delivery
from triosmtp.event import ServerEvent
from triosmtp.limits.timeouts import watch
from triosmtp.message import Message
from triosmtp.policy import Policy
from triosmtp.server.proxy_protocol import read_proxy_header
from triosmtp.server.server import begin, open_service, run_session
from triosmtp.server.service import Service
from triosmtp.server.session.driver import SMTPSession
from triosmtp.sockets.listener import Peer
from triosmtp.testing.scripted_client import Client

__all__ = ["MemoryServer", "ReceivedMessage", "open_memory_server"]


@frozen(slots=True)
class ReceivedMessage:
    """A message as a test looks at it."""

    sender: str
    recipients: tuple[str, ...]
    trace: bytes
    body: bytes
    variables: dict[str, str]
    message_variables: dict[str, str]


class _WholeSends(trio.abc.SendStream):
    """Sends into memory, which takes everything at once: a cancelled send loses nothing, as over a socket."""

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
    """Delivered messages, unless the test has a delivery of its own."""
    events: list[ServerEvent]
    """Every event of every session."""

    def connect(self, *, peer: str = "192.0.2.1", listen: str | None = None) -> Client:
        """Connect from ``peer`` to the Listen of that name, else to the first one.  The banner is still to be read.

        One whom Proxy_Protocol names sends its PROXY header first.
        """
        listens = self.service.config.listens
        chosen = next(item for item in listens if listen in {None, item.name})
        address = ip_address(peer)
        stream, theirs = trio.testing.memory_stream_pair()
        ours = trio.StapledStream(_WholeSends(stream.send_stream), stream.receive_stream)
        settings = self.service.config.resolve(chosen, address)
        text = f"[{peer}]:1024" if ":" in peer else f"{peer}:1024"
        peer_here = Peer(text, address, 1024)
        if address in settings.proxy_protocol:
            self.nursery.start_soon(self._take_from_proxy, chosen, settings, ours, peer_here)
        else:
            self._begin(chosen, ours, peer_here)
        return Client(theirs)

    async def _take_from_proxy(self, listen: Listen, settings: Settings, ours: trio.abc.Stream, proxy: Peer) -> None:
        peer = await read_proxy_header(self.service, listen, settings, ours, proxy, "memory")
        if peer is None:
            await ours.aclose()
        else:
            self._begin(listen, ours, peer)

    def _begin(self, listen: Listen, ours: trio.abc.Stream, peer: Peer) -> None:
        settings = self.service.config.resolve(listen, peer.address)
        refusal = begin(self.service, listen, settings, peer)
        if refusal is not None:
            self.nursery.start_soon(_turn_away, ours, refusal)
            return
        profile = self.service.profiles.of(listen, settings)
        driver = SMTPSession(self.service, listen, profile, ours, peer, peer.local or "memory")
        self.nursery.start_soon(run_session, self.service, listen, driver)


async def _turn_away(stream: trio.abc.Stream, refusal: bytes) -> None:
    async with stream:
        if refusal:
            await stream.send_all(refusal)


@asynccontextmanager
async def open_memory_server(
    configuration: str | Config,
    *,
    policy: Policy | Iterable[Policy] | None = None,
    deliver: Delivery | Callable[[Message], Awaitable[None]] | None = None,
) -> AsyncIterator[MemoryServer]:
    """Serve ``configuration`` on memory streams, until the block is left: then every session is cancelled.

    :raises ConfigError: as :func:`triosmtp.serve` does.
    """
    config = parse_config(configuration) if isinstance(configuration, str) else configuration
    events: list[ServerEvent] = []
    messages: list[ReceivedMessage] = []

    async def collect(message: Message) -> None:
        messages.append(as_received(message))

    service = await open_service(
        config, policy=policy, deliver=deliver or collect, observers=(events.append,), mock_key=MockKey()
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch, service.running)
        await nursery.start(service.hub.run)
        yield MemoryServer(service, nursery, messages, events)
        nursery.cancel_scope.cancel()


def as_received(message: Message) -> ReceivedMessage:
    """Return ``message`` as a test looks at it."""
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
