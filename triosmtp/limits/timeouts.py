"""How long a session waits for its peer: one watch over all sessions, that looks at them once a second.

A cancel scope for each read would cost more than the read, and moving a deadline as much as parsing a command.  So a
session only notes that it waits, and since when; the watch ends those that have waited too long.  A second is exact
enough for limits of minutes, and what a policy or a delivery takes is never counted as the peer's time.

Three limits: the time for one command, or between two pieces of a message (a client that sends a command octet by octet
gains nothing by it); the rate at which a message must arrive; and the whole session's.

The rate is taken while octets come, over half a minute of that.  A gap above 5 s is silence: each is the first limit's
affair (RFC 5321, section 4.5.3.2, asks for minutes).  All of them together have a limit, too: three times the first
one, and what the octets of the message would have taken.  Else a message would last for ever that comes octet by octet,
with a silence before each.
"""

from collections.abc import Callable, Collection
from math import inf
from typing import Final, Literal, Protocol, TypeAlias

import trio

__all__ = ["Exhausted", "Patience", "watch"]

_LOOK: Final = 1.0
"""Seconds between two looks."""
_WINDOW: Final = 30.0
"""Seconds over which the rate of a message is taken, silences left out."""
_SILENCE: Final = 5.0
"""Seconds without an octet that are no silence yet."""
_SILENCES: Final = 3
"""How many times the time between two pieces all silences of one message may last."""

Exhausted: TypeAlias = Literal["idle", "slow", "overlong"]
"""Which limit was reached."""


class Patience:
    """The limits of one session: whichever is reached is named in ``exhausted``, then ``give_up`` is called.

    What it calls must not hold the session, which holds this: a circle would keep each session, and its TLS, until the
    garbage collector comes by.

    ``idle_time`` is the seconds of waiting for the peer, ``min_rate`` the octets a second of a message (0: any),
    ``session_time`` the seconds from ``started`` (0: any).
    """

    __slots__ = (
        "_active", "_arrived", "_begun", "_ends", "_give_up", "_idle_time", "_message", "_min_rate", "_opened",
        "_seen", "_silent", "_since", "exhausted", "listening", "octets", "receiving",
    )  # fmt: skip

    def __init__(
        self,
        idle_time: float,
        give_up: Callable[[], None],
        *,
        min_rate: int = 0,
        session_time: float = 0,
        started: float = 0,
    ) -> None:
        self._idle_time = idle_time
        self._give_up = give_up
        self._min_rate = min_rate
        self._ends = started + session_time if session_time else inf
        self._since = inf
        self._message = 0  # which one was arriving at the last look; 0: none
        self._begun = self._opened = self._seen = 0  # octets: when it began, when the window did, at the last look
        self._arrived = 0.0  # when some were seen to have come
        self._active = self._silent = 0.0  # seconds: of the window, and of all silences
        self.exhausted: Exhausted | None = None
        """Which limit was reached."""
        self.octets = 0
        """What has arrived: the session counts."""
        self.receiving = 0
        """Which message is waited for, by a number that the next one has not; 0: none."""
        self.listening = False
        """Whether all was said that is due: a delivery under way, and its reply, are finished however long it lasts."""

    def change(self, idle_time: float, *, min_rate: int) -> None:
        """Take other limits; that of the whole session stays."""
        self._idle_time, self._min_rate = idle_time, min_rate

    def start(self, now: float) -> None:
        """It is the peer's turn."""
        self._since = now

    def stop(self) -> float:
        """It is our turn; give since when it was the peer's."""
        since, self._since = self._since, inf
        self.listening = False
        return since

    def look(self, now: float) -> None:
        """Give up where the peer has had its time."""
        if now - self._since > self._idle_time:
            self._end("idle")
        elif now >= self._ends and self.listening:
            self._end("overlong")
        elif self._min_rate:
            self._look_at_rate(now)

    def _look_at_rate(self, now: float) -> None:
        if self.receiving != self._message:
            self._message, self._arrived = self.receiving, now
            self._begun = self._opened = self._seen = self.octets
            self._active = self._silent = 0.0
        elif self._since == inf:
            self._arrived = now  # what holds the message up is on our side
        elif self._message and self.octets != self._seen:
            gap, self._arrived, self._seen = now - self._arrived, now, self.octets
            if gap > _SILENCE:
                self._silent += gap
                if self._silent > _SILENCES * self._idle_time + (self.octets - self._begun) / self._min_rate:
                    self._end("slow")
                return
            self._active += gap
            if self._active >= _WINDOW:
                if self.octets - self._opened < self._min_rate * self._active:
                    self._end("slow")
                self._active, self._opened = 0.0, self.octets

    def _end(self, why: Exhausted) -> None:
        self._since = self._ends = inf
        self._min_rate = 0
        self.exhausted = why
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
