"""How long a client waits before it connects again."""

import random
from collections.abc import Callable
from typing import Final

from attrs import define

__all__ = ["FIRST", "LONGEST", "ReconnectDelay"]

FIRST: Final = 0.05
"""Seconds before the first attempt, at most."""
LONGEST: Final = 2.0
"""Seconds between two attempts, at most: a server that comes back has its deciders within that time."""


@define(slots=True)
class ReconnectDelay:
    """The delays of attempts that fail: each at most twice as long as the one before, up to :data:`LONGEST`.

    Each is random, between half of that and the whole, so that the clients of a server do not come at once.
    """

    random: Callable[[], float] = random.random
    _longest: float = FIRST
    _since: float | None = None

    def take(self) -> float:
        """Return the seconds to wait before the next attempt."""
        longest = self._longest
        self._longest = min(LONGEST, 2 * longest)
        return longest * (1 + self.random()) / 2

    def note_connected(self, now: float) -> None:
        """Record that the server has accepted the client; ``now`` is the time on Trio's clock."""
        self._since = now

    def note_end(self, now: float) -> bool:
        """Record the end of an attempt or of the connection that it made; return whether it had made one.

        After a connection of :data:`LONGEST` seconds, the first delay is due again.  So a server that ends each
        connection at once is not asked more often.
        """
        since, self._since = self._since, None
        if since is not None and now - since >= LONGEST:
            self._longest = FIRST
        return since is not None
