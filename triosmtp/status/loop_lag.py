"""Lag of the event loop: code that blocks it delays all mail."""

from collections import deque
from typing import Final

import trio

from triosmtp.histogram import Histogram

__all__ = ["LongestLag", "measure_lag"]

_INTERVAL: Final = 0.5
_WINDOW: Final = 120
"""Number of the latest measurements, which are of one minute."""


class LongestLag:
    """The longest of the last measurements."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=_WINDOW)

    def add(self, seconds: float) -> None:
        """Add a measurement."""
        self._last.append(seconds)

    def __call__(self) -> float:
        """Return the longest one, in seconds."""
        return max(self._last, default=0.0)


async def measure_lag(histogram: Histogram, longest: LongestLag) -> None:
    """Sleep twice a second and measure how much too late the loop returns, until cancelled."""
    while True:
        due = trio.current_time() + _INTERVAL
        await trio.sleep_until(due)
        lag = max(0.0, trio.current_time() - due)
        histogram.observe(lag)
        longest.add(lag)
