"""Limit expensive work that peers can cause, such as hashing: a bounded queue that peers share fairly.

*Bounds.*  The work at once is limited, and so is the work that waits, in total and of one peer.  Beyond that the work
is refused at once.  So no peer chooses how much memory or time it uses here.

*Fairness.*  Free places go to the waiting peers in turns, not in the order of arrival.  If the queue is full, a peer
with less in it replaces an entry of the peer with most in it.

*Liveness.*  Before a peer receives a place, the queue checks whether it is still connected.
"""

import sys
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager

import trio
from attrs import define, field

__all__ = ["FairQueue", "PeerGoneError", "QueueFullError"]


class QueueFullError(Exception):
    """Too much work waits already, of this peer or in total."""


class PeerGoneError(Exception):
    """The peer has disconnected: nothing needs the result."""


@define(slots=True, eq=False)
class _Waiter:
    is_gone: Callable[[], bool]
    # `check` imports this module, and may end without Trio: it is not looked up at the import.
    wakeup: "trio.Event" = field(factory=lambda: trio.Event())  # noqa: PLW0108
    error: Exception | None = None
    """Why it receives no place; None while it waits and after it has a place."""


class FairQueue:
    """Places for ``at_once`` pieces of work in total, and for ``at_once_per_peer`` of one peer.

    ``waiting`` more may wait in total, and ``waiting_per_peer`` of one peer.  A peer is any hashable key.
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
        self._queues: OrderedDict[Hashable, deque[_Waiter]] = OrderedDict()  # the next peer is first
        self.waiting = 0
        """How many pieces of work wait."""

    @property
    def taken(self) -> int:
        """How many places are taken."""
        return self._taken

    def resize(self, at_once: int, at_once_per_peer: int) -> None:
        """Change how many places there are.  Places that are taken beyond that are kept until they are released."""
        self._at_once, self._at_once_per_peer = at_once, at_once_per_peer
        self._assign_places()

    @asynccontextmanager
    async def place(self, peer: Hashable, is_gone: Callable[[], bool]) -> AsyncIterator[None]:
        """Wait for a place.  It is kept until the block ends.  ``is_gone`` returns whether the peer has disconnected.

        :raises QueueFullError: if too much work waits already.
        :raises PeerGoneError: if the peer disconnected before it had a place.
        """
        if is_gone():
            raise PeerGoneError
        if not self.take_now(peer):
            await self.wait_for_place(peer, is_gone)
        try:
            yield
        finally:
            self.release(peer)

    def take_now(self, peer: Hashable) -> bool:
        """Take a place if one is free for ``peer``, and return whether it is; :meth:`release` must follow."""
        has_place = self._has_place(peer)  # then no other peer waits that could use the place
        if has_place:
            self._take(peer)
        return has_place

    def _has_place(self, peer: Hashable) -> bool:
        return self._taken < self._at_once and self._taken_by[peer] < self._at_once_per_peer

    def _take(self, peer: Hashable) -> None:
        self._taken += 1
        self._taken_by[peer] += 1

    def release(self, peer: Hashable) -> None:
        """Return a place."""
        self._taken -= 1
        self._taken_by[peer] -= 1
        if not self._taken_by[peer]:
            del self._taken_by[peer]
        self._assign_places()

    async def wait_for_place(self, peer: Hashable, is_gone: Callable[[], bool]) -> None:
        """Wait for a place after :meth:`take_now` had none; :meth:`release` must follow.

        :raises QueueFullError: if too much work waits already.
        :raises PeerGoneError: if the peer disconnected before it had a place.
        """
        waiter = _Waiter(is_gone)
        self._make_space(peer)
        self._queues.setdefault(peer, deque()).append(waiter)
        self.waiting += 1
        try:
            await waiter.wakeup.wait()
        except BaseException:
            if not waiter.wakeup.is_set():
                self._remove(peer, waiter)
            elif waiter.error is None:  # it had received a place
                self.release(peer)
            raise
        if waiter.error is not None:
            raise waiter.error

    def _make_space(self, peer: Hashable) -> None:
        """Make sure that one more piece of work of ``peer`` may wait.

        :raises QueueFullError: if it may not.
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
                self._end(most, self._queues[most][-1], QueueFullError())
                return
        raise QueueFullError

    def _is_full(self, peer: Hashable) -> bool:
        return self.waiting >= self._waiting or len(self._queues.get(peer, ())) >= self._waiting_per_peer

    def _assign_places(self) -> None:
        while (peer := next(filter(self._has_place, self._queues), None)) is not None:
            waiter = self._queues[peer][0]
            if waiter.is_gone():
                self._end(peer, waiter, PeerGoneError())
                continue
            self._remove(peer, waiter)
            if peer in self._queues:
                self._queues.move_to_end(peer)
            self._take(peer)
            waiter.wakeup.set()

    def _end(self, peer: Hashable, waiter: _Waiter, error: Exception) -> None:
        """End the wait of a piece of work that receives no place."""
        self._remove(peer, waiter)
        waiter.error = error
        waiter.wakeup.set()

    def _remove(self, peer: Hashable, waiter: _Waiter) -> None:
        queue = self._queues[peer]
        queue.remove(waiter)
        if not queue:
            del self._queues[peer]
        self.waiting -= 1
