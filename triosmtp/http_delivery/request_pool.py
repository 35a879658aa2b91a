"""The connections to an application: each is used for one request at a time, and has a slot of the target."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from triosmtp.http_client.http_client import HTTPClient
from triosmtp.limits.target_slots import TargetSlots

__all__ = ["RequestPool"]

_CLOSE_SECONDS: Final = 1.0
"""Seconds in which a connection is closed."""


class RequestPool:
    """Clients of one connection each, as ``make_client`` makes them, in ``slots``.

    One that was not used for ``idle_seconds`` is closed at the next request.
    """

    def __init__(self, make_client: Callable[[], HTTPClient], slots: TargetSlots, idle_seconds: float) -> None:
        self._make_client = make_client
        self._slots = slots
        self._idle_seconds = idle_seconds
        self._idle: list[tuple[float, HTTPClient]] = []  # since when, on Trio's clock; the oldest is first
        self._closed = False
        self._has_joined = False

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
    async def client(self) -> AsyncIterator[HTTPClient]:
        """Wait for a connection, and use it for one request.  After an error it is closed.

        :raises QueueFullError: if too many requests wait already.
        """
        self._join()
        request = object()  # in the order of arrival: the message was accepted
        if not self._slots.take_now(request):
            await self._slots.wait_for_turn(request)
        try:
            client = self._idle.pop()[1] if self._idle else await self._new()
            is_usable = False
            try:
                yield client
                is_usable = not (self._closed or self._slots.has_too_many)
            finally:
                if is_usable:
                    self._idle.append((trio.current_time(), client))
                else:
                    await self._close(client)
        finally:
            self._slots.release(request)
        while self._idle and self._idle[0][0] < trio.current_time() - self._idle_seconds:
            await self.close_idle()

    async def _new(self) -> HTTPClient:
        await self._slots.reserve(self)
        try:
            return self._make_client()
        except BaseException:
            self._slots.count_out()
            raise

    async def _close(self, client: HTTPClient) -> None:
        try:
            with trio.move_on_after(_CLOSE_SECONDS, shield=True):
                await client.aclose()
        finally:
            self._slots.count_out()

    async def close_idle(self) -> bool:
        """Close the connection that was unused longest; return whether there was one."""
        if not self._idle:
            return False
        await self._close(self._idle.pop(0)[1])
        return True

    async def aclose(self) -> None:
        """Close all connections that are unused, and keep none from now on."""
        self._closed = True
        while await self.close_idle():
            pass
        self._slots.leave(self)
