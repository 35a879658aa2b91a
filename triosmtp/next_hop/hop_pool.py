"""The connections to one next hop: their number, who may use them, and how they are reused.

A connection is used for one step of a transaction: for one recipient at RCPT, or for the delivery after the body.
Between its steps a transaction does not hold its connection.  So a client that stops after RCPT keeps no other client
waiting.  If no connection is free, a step takes the one that was unused longest.  The transaction that was open there
is opened again when its client goes on.  Also without such need, a transaction without progress for 10 s is ended.

- The number of connections, and of the steps at once, is that of the target's slots (:class:`TargetSlots`).
- A step that has no connection within 5 s fails, and the client receives 451.
- A connection on which a step failed is closed.
"""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Final

import trio

from triosmtp.limits.fair_queue import QueueFullError
from triosmtp.limits.target_slots import TargetSlots
from triosmtp.next_hop.hop_connection import HopConnection
from triosmtp.next_hop.hop_error import HopBusyError, HopError

__all__ = ["HELD", "WAIT", "HopPool"]

WAIT: Final = 5.0
"""Seconds that a step waits for a connection."""
HELD: Final = 10.0
"""Seconds after which a transaction without progress is ended."""
_LOOK: Final = 1.0
"""Seconds between two looks at unused connections."""


class HopPool:
    """The connections that ``connect`` opens.  ``on_change`` is called with their number when it has changed."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[HopConnection]],
        *,
        slots: TargetSlots,
        max_deliveries: int,
        idle_timeout: float,
        on_change: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._connect = connect
        self._slots = slots
        self._max_deliveries = max_deliveries or sys.maxsize
        self._idle_timeout = idle_timeout
        self._on_change = on_change
        self._idle: list[HopConnection] = []  # the one that was unused longest is first
        self._open = 0
        self._closed = False
        self._unused = trio.Event()  # set while there may be unused connections
        self._has_joined = False

    @property
    def open(self) -> int:
        """How many connections are open, or being opened."""
        return self._open

    def set_limit(self, limit: int) -> None:
        """Put ``limit`` in force, for the pools of former configurations, too; 0: unlimited."""
        self._join()
        self._slots.set_limit(limit)

    def _join(self) -> None:
        """Use the slots from now on.  The pool of a configuration that is not put in force never does."""
        if not self._has_joined:
            self._has_joined = True
            self._slots.join(self)

    @asynccontextmanager
    async def use(self, owner: object, peer: Hashable, *, fresh: bool = False) -> AsyncIterator[HopConnection]:
        """Use a connection for one step of the transaction ``owner``, for a client with the address ``peer``.

        It is the one on which the transaction is open, if it has one still.  With ``fresh`` it is a new one.

        :raises HopBusyError: if none is free in time.
        :raises HopError: if no connection can be made.
        """
        self._join()
        if not self._slots.take_now(peer):
            await self._wait_for_turn(peer)
        try:
            connection = self._take(owner, fresh=fresh) or await self._new()
            done = False
            try:
                yield connection
                done = True
            finally:
                if done:
                    self._put(connection, owner)
                else:
                    self._drop(connection)
        finally:
            self._slots.release(peer)

    async def _wait_for_turn(self, peer: Hashable) -> None:
        with trio.move_on_after(WAIT) as scope:
            try:
                await self._slots.wait_for_turn(peer)
            except QueueFullError:
                raise HopBusyError("too many clients wait for a connection to the hop") from None
        if scope.cancelled_caught:
            raise HopBusyError(f"no connection to the hop was free within {WAIT:g} s")

    def disown(self, owner: object) -> None:
        """Release the connection on which the transaction ``owner`` is open: nobody will continue it."""
        for connection in self._idle:
            if connection.owner is owner:
                connection.owner = connection.transaction = None

    async def _new(self) -> HopConnection:
        await self._slots.reserve(self)
        self._count(1)
        try:
            return await self._connect()
        except BaseException:
            self._count_out()
            raise

    async def close_idle(self) -> bool:
        """Close the connection that was unused longest; return whether there was one."""
        if not self._idle:
            return False
        await self._quit(self._idle.pop(0))
        return True

    def _take(self, owner: object, *, fresh: bool) -> HopConnection | None:
        """Return an unused connection: the transaction's own, the one that was used last, or one of another."""
        while not fresh and (found := self._candidate(owner)) is not None:
            self._idle.remove(found)
            if not self._is_over(found):
                return found
            self._drop(found)
        return None  # _new() opens one, and closes the one that was unused longest if it must

    def _candidate(self, owner: object) -> HopConnection | None:
        own = next((each for each in self._idle if each.owner is owner), None)
        found = own or next((each for each in reversed(self._idle) if each.owner is None), None)
        if found is None and self._idle and self._slots.is_full and self._idle[0].announced is None:
            found = self._idle[0]
            found.owner = found.transaction = None
        return found

    def _is_over(self, connection: HopConnection) -> bool:
        """Return whether an unused connection cannot be used: it has ended, is too old, or for a client that left."""
        is_old = trio.current_time() - connection.idle_since > self._idle_timeout
        is_left = connection.announced is not None and connection.owner is None
        return is_old or is_left or connection.has_ended()

    def _put(self, connection: HopConnection, owner: object) -> None:
        connection.owner = owner if connection.transaction is not None else None
        is_over = self._closed or self._slots.has_too_many or not connection.is_usable
        is_over = is_over or connection.deliveries >= self._max_deliveries
        if is_over or (connection.announced is not None and connection.owner is None):
            self._drop(connection)
            return
        connection.idle_since = trio.current_time()
        connection.is_fresh = False
        self._idle.append(connection)
        self._unused.set()

    def _drop(self, connection: HopConnection) -> None:
        connection.close()
        self._count_out()

    async def _quit(self, connection: HopConnection) -> None:
        try:
            await connection.quit()
        finally:
            self._count_out()

    def _count_out(self) -> None:
        self._slots.count_out()
        self._count(-1)

    def _count(self, change: int) -> None:
        self._open += change
        self._on_change(self._open)

    async def run(self) -> None:
        """End transactions without progress, and close connections that are idle, until cancelled."""
        while True:
            await self._unused.wait()
            await trio.sleep(_LOOK)
            for each in tuple(self._idle):
                if each in self._idle:  # else it was taken meanwhile
                    await self._maintain(each)
            if not self._idle:
                self._unused = trio.Event()

    async def _maintain(self, connection: HopConnection) -> None:
        unused = trio.current_time() - connection.idle_since
        if connection.owner is not None and unused >= HELD:
            connection.owner = connection.transaction = None
        if unused >= self._idle_timeout or self._is_over(connection):
            self._idle.remove(connection)
            await self._quit(connection)
        elif connection.owner is None and connection.is_dirty:
            await self._reset(connection)

    async def _reset(self, connection: HopConnection) -> None:
        """End a transaction that nobody will continue, so that the hop keeps nothing for it."""
        if not self._slots.take_now(self):
            return  # all connections are in use: this one is, too, soon
        self._idle.remove(connection)
        since = connection.idle_since
        try:
            await connection.reset()
        except HopError:
            self._drop(connection)
        except BaseException:
            self._drop(connection)
            raise
        else:
            self._put(connection, None)
            connection.idle_since = since
        finally:
            self._slots.release(self)

    async def aclose(self) -> None:
        """Close all connections that are unused, and keep none from now on."""
        self._closed = True
        async with trio.open_nursery() as nursery:
            while self._idle:
                nursery.start_soon(self._quit, self._idle.pop())
        self._slots.leave(self)
