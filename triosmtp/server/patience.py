"""How long a session waits for its peer: one watch over all sessions, that looks at them once a second.

A cancel scope for each read would cost more than the read, and moving a deadline as much as parsing a command.  So a
session only notes that it waits, and since when; the watch ends those that have waited too long.  A second is exact
enough for limits of minutes, and what a policy or a delivery takes is never counted as the peer's time.
"""

from collections.abc import Callable, Collection
from math import inf
from typing import Protocol

import trio

__all__ = ["Patience", "watch"]

_LOOK = 1.0
"""Seconds between two looks."""


class Patience:
    """The idle limit of one session: ``idle_time`` seconds of waiting for the peer call ``give_up``."""

    __slots__ = ("_give_up", "_idle_time", "_since")

    def __init__(self, idle_time: float, give_up: Callable[[], None]) -> None:
        self._idle_time = idle_time
        self._give_up = give_up
        self._since = inf

    def start(self, now: float) -> None:
        """It is the peer's turn."""
        self._since = now

    def stop(self) -> None:
        """It is our turn."""
        self._since = inf

    def look(self, now: float) -> None:
        """Give up where the peer has had its time."""
        if now - self._since > self._idle_time:
            self._since = inf
            self._give_up()


class Waiting(Protocol):
    """Whatever has patience."""

    patience: Patience


async def watch(sessions: Collection[Waiting]) -> None:
    """Look at every session once a second, until cancelled."""
    while True:
        await trio.sleep(_LOOK)
        _look_at(sessions, trio.current_time())


def _look_at(sessions: Collection[Waiting], now: float) -> None:
    # Not in the loop: asleep, it would hold the last session, and with it the TLS context of a session that has ended.
    for session in tuple(sessions):
        session.patience.look(now)
