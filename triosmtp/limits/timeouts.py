"""How long a session waits for its peer: one task looks at all sessions once a second.

A cancel scope for each read would cost more than the read, and moving a deadline as much as parsing a command.  So a
session only notes since when it waits for its peer, and :func:`watch` ends the sessions that have waited too long.  A
second is exact enough for limits of minutes.  A handshake that takes too long is ended in the same way.  The time of a
policy or a delivery is never counted as the peer's.

There are three limits: the time for one command or one piece of a message, the rate at which a message must arrive, and
the time of the whole session.  A client that sends a command octet by octet gains nothing by it.

The rate is measured over 30 s in which octets arrive.  A gap above 5 s is a silence and belongs to the first limit (RFC
5321, section 4.5.3.2, asks for minutes).  All silences of one message have a limit of their own: three times Idle_Time,
and what its octets would have taken at the minimum rate.  Without it a message could last for ever, if each octet came
after a silence.
"""

from collections.abc import Collection
from math import inf
from typing import Final, Literal, Protocol, TypeAlias

import trio

__all__ = ["Expired", "SessionTimeouts", "watch"]

_INTERVAL_SECONDS: Final = 1.0
_WINDOW_SECONDS: Final = 30.0
"""The time over which the rate of a message is measured, without silences."""
_SILENCE_SECONDS: Final = 5.0
"""A longer gap between two pieces of a message is a silence."""
_MAX_SILENCES: Final = 3
"""All silences of one message may last this many times Idle_Time."""

Expired: TypeAlias = Literal["idle", "slow", "max_session_time"]
"""The limit that was reached."""


class SessionTimeouts:
    """The time limits of one session.

    ``idle_time`` is how many seconds the peer may take for a command or a piece of a message.  ``min_rate`` is in
    octets a second of a message (0: any).  ``max_session_time`` is in seconds from ``started`` (0: unlimited).
    """

    # Without __slots__: most sessions change few of these defaults.
    since = inf
    """Since when the session waits for its peer; infinite while it does not.  The session assigns it."""
    octets = 0
    """Octets of messages that have arrived.  The session counts them."""
    expired: Expired | None = None
    """The limit that was reached, if any."""
    _rate: "_MessageRate | None" = None

    def __init__(self, idle_time: float, *, min_rate: int = 0, max_session_time: float = 0, started: float = 0) -> None:
        self._idle_time = idle_time
        self._min_rate = min_rate
        self._ends = started + max_session_time if max_session_time else inf

    def change(self, idle_time: float, *, min_rate: int) -> None:
        """Set other limits.  The limit of the whole session stays."""
        self._idle_time, self._min_rate = idle_time, min_rate

    def check(self, now: float, message: int, *, sending: bool = False) -> Expired | None:
        """Return the limit that has been reached since the last call, if any.

        ``message`` is the number of the message that is arriving; 0 if there is none.  ``sending`` is whether the peer
        has replies to take yet: these are sent even if the session has lasted too long.
        """
        if self.expired is not None:
            return None
        if now - self.since > self._idle_time:
            self.expired = "idle"
        elif now >= self._ends and self.since != inf and not sending:
            self.expired = "max_session_time"
        elif self._min_rate and self._is_slow(now, message):
            self.expired = "slow"
        return self.expired

    def _is_slow(self, now: float, message: int) -> bool:
        rate = self._rate
        if not message:
            self._rate = None
        elif rate is None or rate.message != message:
            self._rate = _MessageRate(message, now, self.octets)
        elif self.since == inf:
            rate.hold(now)
        elif self.octets != rate.seen:
            return rate.is_slow(now, self.octets, self._min_rate, _MAX_SILENCES * self._idle_time)
        return False


class _MessageRate:
    """How fast one message arrives."""

    __slots__ = ("_active", "_arrived", "_begun", "_opened", "_silent", "message", "seen")

    def __init__(self, message: int, now: float, octets: int) -> None:
        self.message = message
        self.seen = octets  # at the last look
        self._begun = self._opened = octets  # when the message began, when the window did
        self._arrived = now  # when some were seen to have arrived
        self._active = self._silent = 0.0  # seconds of the window, and of all silences

    def hold(self, now: float) -> None:
        """Leave out the time until ``now``: the session itself held up the message."""
        self._arrived = now

    def is_slow(self, now: float, octets: int, min_rate: int, max_silence: float) -> bool:
        """Count what has arrived; return whether the message is too slow."""
        gap, self._arrived, self.seen = now - self._arrived, now, octets
        if gap > _SILENCE_SECONDS:
            self._silent += gap
            return self._silent > max_silence + (octets - self._begun) / min_rate
        self._active += gap
        if self._active < _WINDOW_SECONDS:
            return False
        slow = octets - self._opened < min_rate * self._active
        self._active, self._opened = 0.0, octets
        return slow


class Watched(Protocol):
    """A session whose time-outs are checked."""

    def check_timeouts(self, now: float) -> None:
        """End the session if a limit has been reached at ``now``, on Trio's clock."""


async def watch(sessions: Collection[Watched]) -> None:
    """Check the time-outs of all ``sessions`` once a second, until cancelled."""
    while True:
        await trio.sleep(_INTERVAL_SECONDS)
        _check(sessions, trio.current_time())


def _check(sessions: Collection[Watched], now: float) -> None:
    # Not in the loop: the variable would hold the last session, and its TLS context, during the sleep.
    for session in tuple(sessions):
        session.check_timeouts(now)
