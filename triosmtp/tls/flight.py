"""Large flights of clients: what is verified in a thread, and how much of that at once.

A client that nobody knows chooses the chain that it presents, and OpenSSL verifies all of it: also after "untrusted",
which the server waives, it goes on to the name constraints.  Each name of each certificate is compared with each
subtree of each authority above it, so that the work grows with the square of the size.  What a chain of that kind
costs (OpenSSL 4.0, one core at 3 GHz): 16 ms at 4 KB, 80 ms at 8 KB, 640 ms at 26 KB, 1.6 s at 62 KB.

OpenSSL releases the GIL while it works, so a thread keeps that from the event loop.  Flights below
:data:`LARGE_FLIGHT` stay on the loop: that is what nearly all clients send, and a thread costs a tenth of a handshake.
"""

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Final, TypeVar

import trio
from attrs import define, field

__all__ = [
    "LARGE_FLIGHT", "MAX_FLIGHT", "MAX_RENEGOTIATION", "FlightQueueFullError", "FlightThreads", "flight_threads",
]  # fmt: skip

LARGE_FLIGHT: Final = 4096
"""Octets of a client's flight above which it is verified in a thread."""
MAX_FLIGHT: Final = 65536
"""Octets of a client's flight above which the handshake fails."""
MAX_RENEGOTIATION: Final = 6144
"""Octets of all that a client sends in a renegotiation, which OpenSSL does within a read, on the event loop."""

_HUGE_FLIGHT: Final = 32768
_THREADS: Final = 2
_MAX_WAITING: Final = 16

T = TypeVar("T")


class FlightQueueFullError(Exception):
    """Too many huge flights wait for a thread."""


@define(slots=True, eq=False)
class _Turn:
    """A flight that waits for a thread."""

    peer: Hashable
    huge: bool
    settled: trio.Event = field(factory=trio.Event)
    """Set when it has a thread, or was given up."""
    given_up: bool = False


class FlightThreads:
    """The threads for large flights: two at once, one of each peer.

    Peers have their turns one after the other, however many flights of one of them wait.  Flights of up to 32 KB wait
    as long as their handshakes have time: how many these are is the handshake limiter's to say.  Of the larger ones 16
    wait.  If there is one more, the peer with the most of them gives up one; if that is the newcomer's, the newcomer.
    """

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(_THREADS)
        self._running: list[Hashable] = []  # the peer of each thread; None: a peer without an address
        self._waiting: list[_Turn] = []  # the next peer's first

    @property
    def running(self) -> int:
        """How many threads are at work."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many flights wait for a thread."""
        return len(self._waiting)

    async def run(self, peer: Hashable, size: int, function: Callable[[], T]) -> T:
        """Call ``function`` in a thread, for a flight of ``size`` octets.

        A cancellation takes effect when the thread is done: until then its place is not free.

        :raises FlightQueueFullError: if too many flights wait.
        """
        turn = _Turn(peer, size > _HUGE_FLIGHT)
        if self._has_thread_for(peer):
            self._running.append(peer)
        else:
            await self._wait(turn)
        try:
            return await trio.to_thread.run_sync(function, limiter=self._limiter)
        finally:
            self._running.remove(peer)
            self._start_next()

    def _has_thread_for(self, peer: Hashable) -> bool:
        return len(self._running) < _THREADS and (peer is None or peer not in self._running)

    async def _wait(self, turn: _Turn) -> None:
        if turn.huge:
            self._make_room(turn)
        self._waiting.append(turn)
        try:
            await turn.settled.wait()
        except trio.Cancelled:
            if turn.settled.is_set() and not turn.given_up:  # it was to begin just now
                self._running.remove(turn.peer)
                self._start_next()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise
        if turn.given_up:
            raise FlightQueueFullError

    def _make_room(self, newcomer: _Turn) -> None:
        huge = [turn for turn in self._waiting if turn.huge]
        if len(huge) < _MAX_WAITING:
            return
        counts = Counter(turn.peer for turn in (*huge, newcomer))
        peer, _ = counts.most_common(1)[0]
        if counts[newcomer.peer] == counts[peer]:
            raise FlightQueueFullError
        last = next(turn for turn in reversed(huge) if turn.peer == peer)
        self._waiting.remove(last)
        last.given_up = True
        last.settled.set()

    def _start_next(self) -> None:
        turn = next((turn for turn in self._waiting if self._has_thread_for(turn.peer)), None)
        if turn is None:
            return
        self._waiting.remove(turn)
        # The same peer's others go behind those of all other peers.
        self._waiting.sort(key=lambda other: other.peer is not None and other.peer == turn.peer)
        self._running.append(turn.peer)
        turn.settled.set()


_threads: Final = trio.lowlevel.RunVar[FlightThreads]("triosmtp large flights")


def flight_threads() -> FlightThreads:
    """Return the threads of this event loop: all servers of one process share them."""
    try:
        return _threads.get()
    except LookupError:
        threads = FlightThreads()
        _threads.set(threads)
        return threads
