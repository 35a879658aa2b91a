"""A next hop that counts its connections: a real triosmtp in this process, behind a proxy that counts exactly."""

import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import trio
from tcp_proxy import TCPProxy

import triosmtp
from triosmtp import Message

_CONFIGURATION = """
Relay_Domains = ( "example.com" )  Connections_Per_Peer = 0
ESMTP_Listener { Listen "127.0.0.1:0" { } }
"""


class _CountingProxy(TCPProxy):
    """Counts the connections whose other end has not closed them: octets of that end that wait do not matter."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.total = 0
        self.most = 0
        self._streams: set[trio.SocketStream] = set()

    async def _pass(self, client: trio.SocketStream) -> None:
        self.total += 1
        self._streams.add(client)
        self.most = max(self.most, self.now)
        try:
            await super()._pass(client)
        finally:
            self._streams.discard(client)

    @property
    def now(self) -> int:
        return sum(1 for each in self._streams if each.socket.fileno() >= 0 and not _has_hung_up(each.socket))


def _has_hung_up(sock: trio.socket.SocketType) -> bool:
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))


class CountingHop:
    """Takes ``seconds`` for each message."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.messages: list[str] = []
        """The sender of each message, whose local part names a client."""
        self._proxy = _CountingProxy(0)
        self._ready = threading.Event()
        self._ended = trio.Event()
        self._token: trio.lowlevel.TrioToken

    @property
    def port(self) -> int:
        """Its port on loopback."""
        return self._proxy.port

    @property
    def most(self) -> int:
        """How many connections it had at once."""
        return self._proxy.most

    def count_again(self) -> None:
        """Let :attr:`most` begin with the connections that there are now."""
        self._proxy.most = self.now

    @property
    def total(self) -> int:
        """How many connections it had one after the other."""
        return self._proxy.total

    @property
    def now(self) -> int:
        """How many connections it has."""
        return trio.from_thread.run_sync(lambda: self._proxy.now, trio_token=self._token)

    async def _deliver(self, message: Message) -> None:
        await trio.sleep(self.seconds)
        self.messages.append(str(message.envelope.sender))

    async def run(self) -> None:
        """Serve until :meth:`end`."""
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            config = triosmtp.parse_config(_CONFIGURATION)
            server = await nursery.start(partial(triosmtp.serve, config, deliver=self._deliver))
            ((_, port),) = server.addresses.values()
            self._proxy = _CountingProxy(port)
            await nursery.start(self._proxy.run)
            self._ready.set()
            await self._ended.wait()
            nursery.cancel_scope.cancel()

    def wait_until_ready(self) -> None:
        """Wait until it serves."""
        assert self._ready.wait(60)

    def end(self) -> None:
        """Close everything."""
        trio.from_thread.run_sync(self._ended.set, trio_token=self._token)


@contextmanager
def counting_hop(seconds: float = 0.0) -> Iterator[CountingHop]:
    """Serve in a thread until the block is left."""
    hop = CountingHop(seconds)
    thread = threading.Thread(target=trio.run, args=(hop.run,))
    thread.start()
    hop.wait_until_ready()
    try:
        yield hop
    finally:
        hop.end()
        thread.join(60)
