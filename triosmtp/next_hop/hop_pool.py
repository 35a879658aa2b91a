"""The connections to one next hop: their number, who may use them, and how they are reused.

A connection is used for one step of a transaction: for one recipient at RCPT, or for the delivery after the body.
Between its steps a transaction does not hold its connection.  So a client that stops after RCPT keeps no other client
waiting.  If no connection is free, a step takes the one that was unused longest.  The transaction that was open there
is opened again when its client goes on.  Also without such need, a transaction without progress for 10 s is ended.

- ``max_connections`` steps run at once, and half of them for one client address.  The addresses take turns.
- A step that has no connection within 5 s fails, and the client receives 451.
- A connection on which a step failed is closed.
"""

import math
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Final

import trio

from triosmtp.limits.fair_queue import FairQueue, QueueFullError
from triosmtp.next_hop.hop_connection import HopConnection
from triosmtp.next_hop.hop_error import HopBusyError, HopError

__all__ = ["HELD", "WAIT", "HopPool"]

WAIT: Final = 5.0
"""Seconds that a step waits for a connection."""
HELD: Final = 10.0
"""Seconds after which a transaction without progress is ended."""
_WAITING: Final = 1000
_LOOK: Final = 1.0
"""Seconds between two looks at unused connections."""


class HopPool:
    """The connections that ``connect`` opens.  ``on_change`` is called with their number when it has changed."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[HopConnection]],
        *,
        max_connections: int,
        max_deliveries: int,
        idle_timeout: float,
        on_change: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._connect = connect
        self._limit = max_connections or sys.maxsize
        self._max_deliveries = max_deliveries or sys.maxsize
        self._idle_timeout = idle_timeout
        self._on_change = on_change
        share = math.ceil(max_connections / 2) if max_connections else sys.maxsize
        self._places = FairQueue(self._limit, waiting=_WAITING, waiting_per_peer=_WAITING // 4, at_once_per_peer=share)
        self._idle: list[HopConnection] = []  # the one that was unused longest is first
        self._open = 0
        self._closed = False
        self._unused = trio.Event()  # set while there may be unused connections

    @property
    def open(self) -> int:
        """How many connections are open, or being opened."""
        return self._open

    @asynccontextmanager
    async def use(self, owner: object, peer: Hashable, *, fresh: bool = False) -> AsyncIterator[HopConnection]:
        """Use a connection for one step of the transaction ``owner``, for a client with the address ``peer``.

        It is the one on which the transaction is open, if it has one still.  With ``fresh`` it is a new one.

        :raises HopBusyError: if none is free in time.
        :raises HopError: if no connection can be made.
        """
        if not self._places.take_now(peer):
            await self._wait_for_place(peer)
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
            self._places.release(peer)

    async def _wait_for_place(self, peer: Hashable) -> None:
        with trio.move_on_after(WAIT) as scope:
            try:
                await self._places.wait_for_place(peer, _never)
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
        if self._open >= self._limit:
            self._drop(self._idle.pop(0))  # there is one: fewer steps than connections are under way
        self._count(1)
        try:
            return await self._connect()
        except BaseException:
            self._count(-1)
            raise

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
        if found is None and self._open >= self._limit and self._idle[0].announced is None:
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
        is_over = self._closed or not connection.is_usable or connection.deliveries >= self._max_deliveries
        if is_over or (connection.announced is not None and connection.owner is None):
            self._drop(connection)
            return
        connection.idle_since = trio.current_time()
        self._idle.append(connection)
        self._unused.set()

    def _drop(self, connection: HopConnection) -> None:
        connection.close()
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
            self._count(-1)
            await connection.quit()
        elif connection.owner is None and connection.is_dirty:
            await self._reset(connection)

    async def _reset(self, connection: HopConnection) -> None:
        """End a transaction that nobody will continue, so that the hop keeps nothing for it."""
        async with self._places.place(self, _never):
            if connection not in self._idle:
                return
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

    async def aclose(self) -> None:
        """Close all connections that are unused, and keep none from now on."""
        self._closed = True
        while self._idle:
            connection = self._idle.pop()
            self._count(-1)
            await connection.quit()


def _never() -> bool:
    return False
