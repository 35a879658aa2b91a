"""Which large flights of clients may have a thread: two at once, one of each peer, in turns.

Flights of up to 32 KB wait as long as their handshakes have time; how many there are is bounded by the gate before
handshakes.  Of larger ones, which no honest client sends and each of which takes seconds, 16 wait.  If one more comes,
it takes the place of one of the peer with most of them; if that is its own peer, its handshake fails.
"""

import sys
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from triosmtp.errors import HandshakeError
from triosmtp.limits.peer_limiter import LimitReachedError, PeerGoneError, PeerLimiter

__all__ = ["FlightLimiter"]

_HUGE: Final = 32768
_MAX_WAITING: Final = 16
_THREADS: Final = 2


class FlightLimiter:
    """The places of one service."""

    __slots__ = ("_huge", "_large")

    def __init__(self) -> None:
        self._large = PeerLimiter(_THREADS, at_once_per_peer=1, waiting=sys.maxsize, waiting_per_peer=sys.maxsize)
        # Those that have a place here, go on to the others' queue.
        self._huge = PeerLimiter(_THREADS, at_once_per_peer=1, waiting=_MAX_WAITING, waiting_per_peer=_MAX_WAITING)

    @property
    def taken(self) -> int:
        """How many threads are at work."""
        return self._large.taken

    @property
    def waiting(self) -> int:
        """How many flights wait for a thread."""
        return self._large.waiting + self._huge.waiting

    @asynccontextmanager
    async def place(self, peer: Hashable, is_gone: Callable[[], bool], size: int) -> AsyncIterator[None]:
        """Wait until a flight of ``size`` octets may have a thread, and keep that place until the block ends.

        :raises HandshakeError: if too many wait, or the peer has disconnected before it had a place.
        """
        async with AsyncExitStack() as places:
            try:
                if size > _HUGE:
                    await places.enter_async_context(self._huge.place(peer, is_gone))
                await places.enter_async_context(self._large.place(peer, is_gone))
            except LimitReachedError:
                raise HandshakeError("verification_queue_full", f"a flight of {size} octets") from None
            except PeerGoneError:
                raise HandshakeError("peer_closed", "while its certificate waited for verification") from None
            yield
