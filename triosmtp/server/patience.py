"""How long a session waits for its peer: one cancel scope for the whole session, whose deadline is moved.

Entering a scope for each read would cost more than the read; moving a deadline costs as much as parsing a command.  So it is
moved at most once a second, which is exact enough for limits of minutes.
"""

from math import inf

import trio

__all__ = ["Patience"]


class Patience:
    """The idle limit of one session: ``idle_time`` seconds without a byte from the peer cancel ``scope``.

    ``ours`` is a context manager for the time in which the peer waits for us: the clock stands still.
    """

    __slots__ = ("_grain", "_idle_time", "_moved", "scope")

    def __init__(self, idle_time: float) -> None:
        self._idle_time = idle_time
        self._grain = min(1.0, idle_time / 10)
        self._moved = trio.current_time()
        self.scope = trio.CancelScope(deadline=self._moved + idle_time)

    def renew(self) -> None:
        """The peer has said something."""
        now = trio.current_time()
        if now - self._moved > self._grain:
            self._moved = now
            self.scope.deadline = now + self._idle_time

    @property
    def ours(self) -> "Patience":
        """The time in which the peer waits for us, as a context manager."""
        return self

    def __enter__(self) -> None:
        self.scope.deadline = inf

    def __exit__(self, *_: object) -> None:
        self._moved = trio.current_time()
        self.scope.deadline = self._moved + self._idle_time
