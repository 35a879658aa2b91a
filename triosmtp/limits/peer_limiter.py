"""Expensive work that peers ask for, such as hashing: a bounded queue, shared fairly between the peers.

Three properties, each against an attack:

*Bounds.*  So much is done at once, and so much waits, in all and of one peer.  Beyond that the answer is a refusal at
once, so no peer chooses how much memory or time waits here.

*Fairness.*  Places go round between the peers that wait, one each, in place of first come, first served.  If the queue
is full, a peer with less in it takes the place of the peer with most in it.

*Liveness.*  Before a place is given away, the limiter looks whether the peer is still connected.
"""

import sys
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager

import trio
from attrs import define, field

__all__ = ["LimitReachedError", "PeerGoneError", "PeerLimiter"]


class LimitReachedError(Exception):
    """Too much waits already, of this peer or in all."""


class PeerGoneError(Exception):
    """The peer has closed its connection; nobody wants the outcome."""


@define(slots=True, eq=False)
class _Waiter:
    is_gone: Callable[[], bool]
    woken: trio.Event = field(factory=trio.Event)
    error: Exception | None = None
    """Why there will be no place; None as long as it waits, or once it has a place."""


class PeerLimiter:
    """Places for ``at_once`` pieces of work, of which ``at_once_per_peer`` may be one peer's.

    ``waiting`` more may wait in all, ``waiting_per_peer`` of one peer.  A peer is any hashable key.
    """

    __slots__ = (
        "_at_once", "_at_once_per_peer", "_queues", "_taken", "_taken_by", "_waiting", "_waiting_per_peer", "waiting",
    )  # fmt: skip

    def __init__(
        self, at_once: int, *, waiting: int, waiting_per_peer: int, at_once_per_peer: int = sys.maxsize
    ) -> None:
        self._at_once = at_once
        self._at_once_per_peer = at_once_per_peer
        self._waiting = waiting
        self._waiting_per_peer = waiting_per_peer
        self._taken = 0
        self._taken_by: Counter[Hashable] = Counter()  # never more entries than places
        self._queues: OrderedDict[Hashable, deque[_Waiter]] = OrderedDict()  # whose turn is next stands first
        self.waiting = 0
        """How many wait now."""

    @property
    def taken(self) -> int:
        """How many places are taken now."""
        return self._taken

    @asynccontextmanager
    async def place(self, peer: Hashable, is_gone: Callable[[], bool]) -> AsyncIterator[None]:
        """Wait for a place, and keep it until the block ends.  ``is_gone`` tells whether the peer has disconnected.

        :raises LimitReachedError: if too much waits already.
        :raises PeerGoneError: if the peer has disconnected before it had a place.
        """
        if is_gone():
            raise PeerGoneError
        if self._has_place(peer):  # then nobody waits whom it could be given
            self._take(peer)
        else:
            await self._wait(peer, _Waiter(is_gone))
        try:
            yield
        finally:
            self._leave(peer)

    def _has_place(self, peer: Hashable) -> bool:
        return self._taken < self._at_once and self._taken_by[peer] < self._at_once_per_peer

    def _take(self, peer: Hashable) -> None:
        self._taken += 1
        self._taken_by[peer] += 1

    def _leave(self, peer: Hashable) -> None:
        self._taken -= 1
        self._taken_by[peer] -= 1
        if not self._taken_by[peer]:
            del self._taken_by[peer]
        self._give_places()

    async def _wait(self, peer: Hashable, waiter: _Waiter) -> None:
        self._make_room(peer)
        self._queues.setdefault(peer, deque()).append(waiter)
        self.waiting += 1
        try:
            await waiter.woken.wait()
        except BaseException:
            if not waiter.woken.is_set():
                self._remove(peer, waiter)
            elif waiter.error is None:  # it was given a place just now
                self._leave(peer)
            raise
        if waiter.error is not None:
            raise waiter.error

    def _make_room(self, peer: Hashable) -> None:
        """Make room for one more of ``peer``.

        :raises LimitReachedError: if there is none to be had.
        """
        if not self._is_full(peer):
            return
        for each, queue in tuple(self._queues.items()):
            for waiter in tuple(queue):
                if waiter.is_gone():
                    self._end(each, waiter, PeerGoneError())
        if not self._is_full(peer):
            return
        own = len(self._queues.get(peer, ()))
        if own < self._waiting_per_peer:
            most = max(self._queues, key=lambda each: len(self._queues[each]))
            if len(self._queues[most]) > own + 1:
                self._end(most, self._queues[most][-1], LimitReachedError())
                return
        raise LimitReachedError

    def _is_full(self, peer: Hashable) -> bool:
        return self.waiting >= self._waiting or len(self._queues.get(peer, ())) >= self._waiting_per_peer

    def _give_places(self) -> None:
        while (peer := next(filter(self._has_place, self._queues), None)) is not None:
            waiter = self._queues[peer][0]
            if waiter.is_gone():
                self._end(peer, waiter, PeerGoneError())
                continue
            self._remove(peer, waiter)
            if peer in self._queues:
                self._queues.move_to_end(peer)
            self._take(peer)
            waiter.woken.set()

    def _end(self, peer: Hashable, waiter: _Waiter, error: Exception) -> None:
        """Let a waiter know that it will have no place."""
        self._remove(peer, waiter)
        waiter.error = error
        waiter.woken.set()

    def _remove(self, peer: Hashable, waiter: _Waiter) -> None:
        queue = self._queues[peer]
        queue.remove(waiter)
        if not queue:
            del self._queues[peer]
        self.waiting -= 1
