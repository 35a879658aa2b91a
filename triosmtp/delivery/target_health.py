"""The health of one target: whether it is available, since when it fails, and how fast it answers."""

import math
from collections import Counter
from typing import Final

import trio

__all__ = ["TargetHealth"]

_WEIGHT: Final = 0.1
"""The weight of the latest answer in the mean of latencies."""


class TargetHealth:
    """The health of one target, in one process.

    A failure is one of the target itself: no connection, TLS, authentication, a time-out, an answer that is our own
    fault.  Its answer about a recipient or a message is a success, also 4xx and 5xx.
    """

    def __init__(self, name: str, *, grace: float = 60.0) -> None:
        self.name = name
        self.grace = grace
        """Delivery_Grace: seconds for which it may fail."""
        self.failing_since: float | None = None
        """When the first of its latest failures was, on Trio's clock; None if the latest answer was a success."""
        self.reason = ""
        """Why the latest failure was one."""
        self.latency = math.nan
        """The mean of the latest latencies, in seconds."""
        self.answers: Counter[str] = Counter()
        """Its answers for recipients, by their class: ``2xx``, ``4xx``, ``5xx``; and ``failed``."""
        self.connections = 0
        """Its open connections."""

    def succeeded(self, seconds: float | None = None) -> None:
        """Record that the target answered, after ``seconds`` if that was measured."""
        self.failing_since = None
        if seconds is not None:
            self.latency = seconds if math.isnan(self.latency) else self.latency + _WEIGHT * (seconds - self.latency)

    def failed(self, reason: str) -> None:
        """Record a failure of the target; ``reason`` is for logs, ``/readyz`` and the status page."""
        self.answers["failed"] += 1
        self.reason = reason
        if self.failing_since is None:
            self.failing_since = trio.current_time()

    @property
    def is_down(self) -> bool:
        """Whether it has failed for longer than its grace."""
        return self.failing_since is not None and trio.current_time() - self.failing_since >= self.grace
