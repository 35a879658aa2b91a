"""How late the event loop is: whoever holds it up holds up all mail."""

from collections import deque
from typing import Final

import trio

from triosmtp.histogram import Histogram

__all__ = ["LongestLag", "measure_lag"]

_EVERY: Final = 0.5
_WINDOW: Final = 120
"""Measurements that the longest one is chosen of: a minute's."""


class LongestLag:
    """The longest of the last measurements."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=_WINDOW)

    def add(self, seconds: float) -> None:
        """Take a measurement."""
        self._last.append(seconds)

    def __call__(self) -> float:
        """Give the longest one, in seconds."""
        return max(self._last, default=0.0)


async def measure_lag(histogram: Histogram, longest: LongestLag) -> None:
    """Sleep twice a second, and see how much later than asked for the loop comes back, until cancelled."""
    while True:
        due = trio.current_time() + _EVERY
        await trio.sleep_until(due)
        lag = max(0.0, trio.current_time() - due)
        histogram.observe(lag)
        longest.add(lag)
