"""The connections that this process may have to one target: their number, who may use them, and where they come from.

A *slot* is the right to have one connection.  A process that is alone has all slots of its targets.  A worker borrows
slots from its supervisor (:mod:`triosmtp.limits.slot_allocator`): some at its first step, more if all of its own are in
use.  It keeps them until others need them.  So a usual step costs no message.

Slots belong to the target, not to a pool.  After a reload, the pools of both configurations share them, until the last
session of the former one has ended.

A *step* is one use of a connection.  As many steps run at once as there are slots, and half of them for one client
address, who take turns (:class:`~triosmtp.limits.fair_queue.FairQueue`).  Each of several workers lets an address have
its part of that half, one step at least.
"""

import math
import sys
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Protocol
from weakref import WeakValueDictionary

import trio

from triosmtp.limits.fair_queue import FairQueue

__all__ = ["ConnectionPool", "SlotLender", "SlotRegistry", "TargetSlots"]

_WAITING: Final = 1000
"""Steps that wait."""
_MIN_HELD_SECONDS: Final = 0.2
"""Seconds for which a slot is used before it goes on to another process: each time costs a connection."""


class ConnectionPool(Protocol):
    """A pool that opens connections in slots."""

    async def close_idle(self) -> bool:
        """Close the connection that was unused longest; return whether there was one."""


class SlotLender(Protocol):
    """Lends slots to this process.  ``key`` names the target."""

    def want(self, key: str, wanted: int, limit: int) -> None:
        """Report that this process could use ``wanted`` slots, of ``limit`` for all processes."""

    def give_back(self, key: str, number: int, wanted: int) -> None:
        """Return ``number`` slots, and report that this process could use ``wanted``."""


class TargetSlots:
    """The slots of one target in this process.  ``limit`` is that of the target, 0 for none."""

    def __init__(
        self,
        limit: int,
        *,
        key: str = "",
        processes: int = 1,
        lender: SlotLender | None = None,
        start: Callable[[Callable[[], Awaitable[None]]], None] = lambda _: None,
    ) -> None:
        self._key = key
        self._processes = processes
        self._lender = lender
        self._start = start
        self._limit = limit or sys.maxsize
        self.held = self._limit if lender is None else 0
        """How many slots this process has."""
        self.open = 0
        """How many connections are open, being opened or being closed."""
        self._keep: int | None = None
        self._asked_for = 0  # slots to return if they are unused
        self._wanted = 0  # as the lender knows it
        self._since = -math.inf  # when a slot was received last
        self._is_giving_back = False
        self._changed: trio.Event | None = None  # made by a task that waits for a connection to be closed, or idle
        self._pools: list[ConnectionPool] = []
        self._steps = FairQueue(0, waiting=_WAITING, waiting_per_peer=_WAITING // 4)
        self._resize()

    def set_limit(self, limit: int) -> None:
        """Put another limit of the target in force."""
        self._limit = limit or sys.maxsize
        if self._lender is None:
            self.held = self._limit
        else:
            self._lender.want(self._key, self._wanted, self._limit)
        self._resize()

    def join(self, pool: ConnectionPool) -> None:
        """Let ``pool`` use the slots."""
        self._pools.append(pool)

    @property
    def pools(self) -> int:
        """How many pools use them."""
        return len(self._pools)

    def leave(self, pool: ConnectionPool) -> None:
        """Let ``pool`` use them no more.  Its connections that are open still count until they are closed."""
        if pool in self._pools:
            self._pools.remove(pool)
            self._give_back_soon()

    # Steps

    def take_now(self, peer: Hashable) -> bool:
        """Begin a step for ``peer`` if it may begin at once; return whether it does.  :meth:`release` must follow."""
        return self._steps.take_now(peer)

    async def wait_for_turn(self, peer: Hashable) -> None:
        """Wait until a step for ``peer`` may begin, after :meth:`take_now`; :meth:`release` must follow.

        :raises QueueFullError: if too many wait already.
        """
        self._want(1)
        try:
            await self._steps.wait_for_place(peer, _never)
        except BaseException:
            self._note_release()  # a step that was cancelled as it might begin
            raise

    def release(self, peer: Hashable) -> None:
        """End a step."""
        self._steps.release(peer)
        self._note_release()

    def _note_release(self) -> None:
        self._note_change()
        if self._keep is not None or not self._pools:
            self._give_back_soon()

    @property
    def is_full(self) -> bool:
        """Whether a connection must be closed before another one is opened."""
        return self.open >= self.held

    @property
    def has_too_many(self) -> bool:
        """Whether a connection is to be closed as soon as its step has ended."""
        return self.open > self.held

    async def reserve(self, pool: ConnectionPool) -> None:
        """Count a connection that ``pool`` is about to open for a step; close one that is idle if that is needed."""
        while self.open >= self.held:  # fewer steps than slots are under way: one is idle, or is being closed
            await self._close_idle(pool)
        self.open += 1

    def count_out(self) -> None:
        """Count a connection out that is closed."""
        self.open -= 1
        self._note_change()

    def _note_change(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def _close_idle(self, first: ConnectionPool | None = None) -> None:
        """Close a connection that is idle; if there is none, wait until one is, or is closed."""
        if self._changed is None:
            self._changed = trio.Event()
        changed = self._changed
        own = () if first is None else (first,)
        for pool in (*own, *self._pools):
            if await pool.close_idle():
                return
        await changed.wait()

    # Slots of other processes

    def grant(self, number: int) -> None:
        """Receive ``number`` slots from the lender."""
        self.held += number
        self._since = trio.current_time()
        self._apply_keep()

    def recall(self, keep: int | None, unused: int) -> None:
        """Keep no more than ``keep`` slots, None for all, and return ``unused`` that are or become unused."""
        self._keep, self._asked_for = keep, unused
        self._apply_keep()

    def _apply_keep(self) -> None:
        self._resize()
        self._give_back_soon()
        if self._keep is not None and self._keep < self.held:
            self._start(self._lower)

    async def _lower(self) -> None:
        """Return the slots of steps that end, but not before the slots were of use."""
        await trio.sleep_until(self._since + _MIN_HELD_SECONDS)
        self._resize()
        self._give_back_soon()

    @property
    def _at_once(self) -> int:
        """How many steps may run."""
        if self._keep is None or trio.current_time() < self._since + _MIN_HELD_SECONDS:
            return self.held
        return min(self.held, self._keep)

    def _resize(self) -> None:
        share = math.ceil(math.ceil(self._limit / 2) / self._processes) if self._limit < sys.maxsize else sys.maxsize
        self._steps.resize(self._at_once, share)
        self._want(0)

    def _count_wanted(self, more: int = 0) -> int:
        """Return how many slots could be used, with ``more`` steps."""
        steps = self._steps
        waiting = steps.waiting + more if steps.taken >= self._at_once else 0  # else those that wait have their share
        return min(steps.taken + waiting, self._limit)

    def _want(self, more: int) -> None:
        """Ask the lender for slots if more could be used than it knows."""
        wanted = self._count_wanted(more)
        if self._lender is not None and wanted > max(self._wanted, self.held):
            self._wanted = wanted
            self._lender.want(self._key, wanted, self._limit)

    @property
    def _unused(self) -> int:
        """How many slots are to be returned now."""
        unused = self.held - self._steps.taken
        return max(0, min(unused, max(self._asked_for, self.held - self._at_once)) if self._pools else unused)

    def _give_back_soon(self) -> None:
        if self._lender is not None and not self._is_giving_back and self._unused:
            self._is_giving_back = True
            self._start(self._give_back)

    async def _give_back(self) -> None:
        """Return slots one by one: nothing uses a slot while its connection is closed."""
        assert self._lender is not None
        try:
            while self._unused:
                self.held -= 1
                self._resize()
                while self.open > self.held:
                    await self._close_idle()
                self._asked_for -= 1
                self._wanted = self._count_wanted()
                self._lender.give_back(self._key, 1, self._wanted)
        finally:
            self._is_giving_back = False


class SlotRegistry:
    """The slots of all targets of this process, which is one of ``processes``."""

    def __init__(self, processes: int = 1, lender: SlotLender | None = None) -> None:
        self._processes = processes
        self._lender = lender
        self._slots: WeakValueDictionary[str, TargetSlots] = WeakValueDictionary()  # their pools keep them
        self.nursery: trio.Nursery | None = None
        """For the tasks that return slots; a process that borrows slots must set it before its first step."""

    def slots(self, key: str, limit: int) -> TargetSlots:
        """Return the slots of the target that ``key`` names.  A limit of 0 is none, and shared with nobody."""
        if not limit:
            return TargetSlots(0)
        found = self._slots.get(key)
        if found is None:
            found = self._slots[key] = TargetSlots(
                limit, key=key, processes=self._processes, lender=self._lender, start=self._start
            )
        return found

    def _start(self, task: Callable[[], Awaitable[None]]) -> None:
        assert self.nursery is not None, "set by the process that borrows slots"
        self.nursery.start_soon(task)

    def grant(self, key: str, number: int) -> None:
        """Receive slots of a target from the lender."""
        found = self._slots.get(key)
        if found is not None:
            found.grant(number)
        elif self._lender is not None:  # nothing delivers to it any more
            self._lender.give_back(key, number, 0)

    def recall(self, key: str, keep: int | None, unused: int) -> None:
        """Return slots of a target: see :meth:`TargetSlots.recall`."""
        found = self._slots.get(key)
        if found is not None:
            found.recall(keep, unused)


def _never() -> bool:
    return False
