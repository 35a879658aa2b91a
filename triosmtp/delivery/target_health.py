"""The health of one target: whether it is available, since when it fails, how fast it answers, and what."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Final

import trio
from attrs import evolve, frozen

__all__ = ["TargetHealth", "TargetState", "ended_state", "merge_states"]

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


def merge_states(*groups: Iterable[TargetState]) -> tuple[TargetState, ...]:
    """Return one state for each target: that of several processes together, and the worst of what cannot be added."""
    merged: dict[str, TargetState] = {}
    for state in chain(*groups):
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


def ended_state(state: TargetState) -> TargetState:
    """Return what stays of the state of a target in a process that has ended: what is counted."""
    return TargetState(state.name, answers=state.answers)


class TargetHealth:
    """The health of one target, in one process.

    A failure is one of the target itself: no connection, TLS, authentication, a time-out, an answer that is our own
    fault.  Its answer about a recipient or a message is a success, also 4xx and 5xx.
    """

    def __init__(self, name: str, *, grace: float = 60.0, on_change: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self.deliveries = 0
        """Messages that were delivered by a target that does not call :meth:`succeeded`."""
        self.delivery_seconds = 0.0
        """The seconds that these took, in total."""
        self.delivered = 0
        """Recipients that were delivered to and are not counted by :meth:`count`."""
        self.grace = grace
        """Delivery_Grace: seconds for which it may fail."""
        self.failing_since: float | None = None
        """When the first of its latest failures was, on Trio's clock; None if the latest answer was a success."""
        self.reason = ""
        """Why the latest failure was one."""
        self.ready = True
        """False until the first success of a target that must have answered before the server is ready."""
        self.is_adopted = False
        """Whether it continues that of a former configuration."""
        self.is_replaced = False
        """Whether that of a new configuration continues it."""
        self.is_announced = False
        """Whether an event has reported that the target is not available."""
        self.note_change = on_change
        """Called when the target may be available, or may not, unlike before; other values are read when needed."""
        self._latency: float | None = None
        self._measured = 0, 0.0  # deliveries, and their seconds, that the latency includes
        self._answers: Counter[str] = Counter()
        self.connections = 0
        """Its open connections."""
        self._turned: trio.Event | None = None  # set when it begins or ends to fail; made by the first that waits

    def succeeded(self, seconds: float | None = None) -> None:
        """Record that the target answered, after ``seconds`` if that was measured."""
        if seconds is not None:
            before = seconds if self._latency is None else self._latency
            self._latency = before + _WEIGHT * (seconds - before)
        if self.ready and self.failing_since is None:
            return
        self.ready = True
        if self.failing_since is not None:
            self.failing_since, self.reason = None, ""
            self.turn()
        self.note_change()

    def failed(self, reason: str) -> None:
        """Record a failure of the target; ``reason`` is for logs, ``/readyz`` and the status page."""
        self._answers["failed"] += 1
        self.reason = reason
        if self.failing_since is None:
            self.failing_since = trio.current_time()
            self.turn()
        self.note_change()

    def adopt(self, former: "TargetHealth") -> None:
        """Take over the health of the same target in a former configuration, so that a reload changes nothing."""
        self.failing_since, self.reason, self.ready = former.failing_since, former.reason, former.ready
        self.is_announced = former.is_announced
        self._latency = former.state().latency
        self.is_adopted = former.is_replaced = True
        former.turn()
        self.turn()
        self.note_change()

    def count(self, code: int, recipients: int = 1) -> None:
        """Count the answer of the target for recipients."""
        self._answers[f"{code // 100}xx"] += recipients

    @property
    def is_down(self) -> bool:
        """Whether it has failed for longer than its grace."""
        return self.failing_since is not None and trio.current_time() - self.failing_since >= self.grace

    def state(self) -> TargetState:
        """Return the present state."""
        since = self.failing_since
        seconds = 0.0 if since is None else trio.current_time() - since
        answers = Counter(self._answers)
        if self.delivered:
            answers["2xx"] += self.delivered
        return TargetState(
            self.name,
            available=self.ready and not self.is_down,
            failing_seconds=seconds,
            reason=self.reason,
            latency=self._mean_latency(),
            answers=dict(answers),
            connections=self.connections,
        )

    def _mean_latency(self) -> float | None:
        """Return the mean of the latest latencies, with that of the deliveries since the last call."""
        deliveries, seconds = self._measured
        number = self.deliveries - deliveries
        if number:
            mean = (self.delivery_seconds - seconds) / number
            before = mean if self._latency is None else self._latency
            self._latency = mean + (1 - _WEIGHT) ** number * (before - mean)
            self._measured = self.deliveries, self.delivery_seconds
        return self._latency

    async def wait_turn(self) -> None:
        """Wait until it begins to fail, is available again, or is replaced."""
        if self._turned is None:
            self._turned = trio.Event()
        await self._turned.wait()

    def turn(self) -> None:
        """Wake those that wait in :meth:`wait_turn`."""
        if self._turned is not None:
            self._turned.set()
            self._turned = None
