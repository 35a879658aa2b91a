"""The health of one target: whether it is available, since when it fails, how fast it answers, and what."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import trio
from attrs import evolve, frozen

__all__ = ["TargetHealth", "TargetState", "merge_states"]

_WEIGHT: Final = 0.1
"""The weight of the latest answer in the mean of latencies."""


@frozen(slots=True)
class TargetState:
    """The health of a target at one moment, as a plain value."""

    name: str
    available: bool = True
    """False if it has failed for longer than its grace, or must answer before the server is ready."""
    failing_seconds: float = 0.0
    """For how long it fails; 0 if its latest answer was a success."""
    reason: str = ""
    """Why it fails; ``""`` if it does not."""
    latency: float | None = None
    """The mean of the latest latencies, in seconds; None if none was measured."""
    answers: Mapping[str, int] = {}
    """Its answers for recipients by class: ``2xx``, ``4xx``, ``5xx``; and ``failed``, failures of the target itself."""
    connections: int = 0
    """Its open connections."""


def merge_states(states: Iterable[TargetState]) -> tuple[TargetState, ...]:
    """Return one state for each target: that of several processes together, and the worst of what cannot be added."""
    merged: dict[str, TargetState] = {}
    for state in states:
        other = merged.get(state.name)
        if other is None:
            merged[state.name] = state
            continue
        worse = max(other, state, key=lambda each: each.failing_seconds)
        latencies = [each.latency for each in (other, state) if each.latency is not None]
        merged[state.name] = evolve(
            worse,
            available=other.available and state.available,
            latency=max(latencies, default=None),
            answers=dict(Counter(other.answers) + Counter(state.answers)),
            connections=other.connections + state.connections,
        )
    return tuple(merged.values())


class TargetHealth:
    """The health of one target, in one process.

    A failure is one of the target itself: no connection, TLS, authentication, a time-out, an answer that is our own
    fault.  Its answer about a recipient or a message is a success, also 4xx and 5xx.
    """

    def __init__(self, name: str, *, grace: float = 60.0, on_change: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self.grace = grace
        """Delivery_Grace: seconds for which it may fail."""
        self.failing_since: float | None = None
        """When the first of its latest failures was, on Trio's clock; None if the latest answer was a success."""
        self.reason = ""
        """Why the latest failure was one."""
        self.ready = True
        """False until the first success of a target that must have answered before the server is ready."""
        self.note_change = on_change
        """Called when the state has changed."""
        self._latency: float | None = None
        self._answers: Counter[str] = Counter()
        self._connections = 0
        self._turned: trio.Event | None = None  # set when it begins or ends to fail; made by the first that waits

    def succeeded(self, seconds: float | None = None) -> None:
        """Record that the target answered, after ``seconds`` if that was measured."""
        if seconds is not None:
            before = seconds if self._latency is None else self._latency
            self._latency = before + _WEIGHT * (seconds - before)
        self.ready = True
        if self.failing_since is not None:
            self.failing_since, self.reason = None, ""
            self._turn()
        self.note_change()

    def failed(self, reason: str) -> None:
        """Record a failure of the target; ``reason`` is for logs, ``/readyz`` and the status page."""
        self._answers["failed"] += 1
        self.reason = reason
        if self.failing_since is None:
            self.failing_since = trio.current_time()
            self._turn()
        self.note_change()

    def count(self, code: int) -> None:
        """Count the answer of the target for one recipient."""
        self._answers[f"{code // 100}xx"] += 1
        self.note_change()

    @property
    def connections(self) -> int:
        """Its open connections."""
        return self._connections

    @connections.setter
    def connections(self, number: int) -> None:
        self._connections = number
        self.note_change()

    @property
    def is_down(self) -> bool:
        """Whether it has failed for longer than its grace."""
        return self.failing_since is not None and trio.current_time() - self.failing_since >= self.grace

    def state(self) -> TargetState:
        """Return the present state."""
        since = self.failing_since
        seconds = 0.0 if since is None else trio.current_time() - since
        return TargetState(
            self.name,
            available=self.ready and not self.is_down,
            failing_seconds=seconds,
            reason=self.reason,
            latency=self._latency,
            answers=dict(self._answers),
            connections=self._connections,
        )

    async def wait_turn(self) -> None:
        """Wait until it begins to fail, or is available again."""
        if self._turned is None:
            self._turned = trio.Event()
        await self._turned.wait()

    def _turn(self) -> None:
        if self._turned is not None:
            self._turned.set()
            self._turned = None
