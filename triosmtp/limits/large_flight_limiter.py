"""Limit the threads that verify large flights of TLS clients: two at once, one for each peer, in turns.

A flight of up to 32 KB waits for a thread as long as its handshake has time; :class:`HandshakeLimiter` bounds their
number.  An honest client sends no larger flight, and each takes seconds.  At most 16 of those wait.  One more replaces
one of the peer that has most of them; if it is of that peer itself, its handshake fails.
"""

import sys
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from triosmtp.errors import HandshakeError
from triosmtp.limits.fair_queue import FairQueue, PeerGoneError, QueueFullError

__all__ = ["LargeFlightLimiter"]

_HUGE_FLIGHT_SIZE: Final = 32768
_MAX_HUGE_WAITING: Final = 16
_THREADS: Final = 2


class LargeFlightLimiter:
    """The places for large flights of one service."""

    __slots__ = ("_huge", "_large")

    def __init__(self) -> None:
        self._large = FairQueue(_THREADS, at_once_per_peer=1, waiting=sys.maxsize, waiting_per_peer=sys.maxsize)
        # A huge flight needs a place here first, then one of the large flights.
        self._huge = FairQueue(
            _THREADS, at_once_per_peer=1, waiting=_MAX_HUGE_WAITING, waiting_per_peer=_MAX_HUGE_WAITING
        )

    @property
    def taken(self) -> int:
        """How many threads work."""
        return self._large.taken

    @property
    def waiting(self) -> int:
        """How many flights wait for a thread."""
        return self._large.waiting + self._huge.waiting

    @asynccontextmanager
    async def place(self, peer: Hashable, is_gone: Callable[[], bool], size: int) -> AsyncIterator[None]:
        """Wait until a flight of ``size`` octets may have a thread.  The place is kept until the block ends.

        :raises HandshakeError: if too many wait, or the peer disconnected before it had a place.
        """
        async with AsyncExitStack() as places:
            try:
                if size > _HUGE_FLIGHT_SIZE:
                    await places.enter_async_context(self._huge.place(peer, is_gone))
                await places.enter_async_context(self._large.place(peer, is_gone))
            except QueueFullError:
                raise HandshakeError("verification_queue_full", f"a flight of {size} octets") from None
            except PeerGoneError:
                raise HandshakeError("peer_closed", "while its certificate waited for verification") from None
            yield
