"""The filters that the server connects to and asks: their clients, by name, for all sessions of all workers.

A session asks with a :class:`FilterQuestion` and receives a :class:`FilterAnswer`: values, because with Workers the
registry is in the supervisor.  So the bound on connections, the circuit breaker, and the figures are those of the
whole server.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias

import trio
from attrs import define, field, frozen

from triosmtp.event import Observer, PolicyFallback, SessionInfo
from triosmtp.histogram import Histogram
from triosmtp.policy.interface import PHASES, Phase
from triosmtp.policy_service.circuit_breaker import CircuitBreaker, NoAnswerError
from triosmtp.policy_service.hub_limits import HubLimits
from triosmtp.policy_service.question import Fallback

__all__ = [
    "LATENCIES", "FilterAnswer", "FilterClient", "FilterFigures", "FilterKey", "FilterQuestion", "FilterRegistry",
    "FilterUse", "percentiles",
]  # fmt: skip

LATENCIES: Final = 1000
"""The latest answers of which the latencies are kept."""


@frozen(slots=True)
class FilterKey:
    """The name, address and phases of a filter: two filters with the same ones are one."""

    name: str
    """The name in logs, metrics and ``show policy``: as it is written in Policy."""
    address: str
    phases: tuple[Phase, ...]


@frozen(slots=True, kw_only=True)
class FilterQuestion:
    """A request to a filter, encoded."""

    filter: FilterKey
    session: SessionInfo
    phase: Phase
    request: bytes = field(repr=False)
    timeout: float
    """Seconds for the answer, a second attempt included."""
    fallback: Fallback
    """The result without an answer; for the event."""


@frozen(slots=True)
class FilterAnswer:
    """The answer of a filter, or why there is none."""

    text: str = ""
    failure: str = ""


@frozen(slots=True, kw_only=True)
class FilterUse:
    """The report of a session about a filter that it asks itself, over a connection of its own."""

    filter: FilterKey
    session: SessionInfo
    kind: Literal["opened", "closed", "answered", "timeout", "invalid", "broken"]
    phase: Phase = "connect"
    seconds: float = 0.0
    """How long it took."""
    fallback: Fallback = "tempfail"
    failure: str = ""
    """Why the fallback applied; ``""`` if it did not."""


class FilterFigures:
    """The circuit breaker and the figures of one filter."""

    def __init__(self, key: FilterKey, limits: HubLimits) -> None:
        self._key = key
        self.breaker = CircuitBreaker(limits.breaker_timeouts, limits.breaker_seconds)
        self._latencies: deque[float] = deque(maxlen=LATENCIES)
        self.latency = Histogram()
        """How long answers that could be applied took, in seconds."""
        self.sessions: set[str] = set()
        """The sessions that have a connection of their own."""
        self._timed_out_at: Phase | None = None
        self.asked = 0
        self.answered = 0
        self.timeouts = 0
        self.invalid = 0
        self.fallbacks = 0

    def record_answer(self, seconds: float, phase: Phase | None = None) -> None:
        """Count an answer that could be applied.

        With ``phase``, it closes the breaker only if the latest time-out was not at a later phase.  A filter that
        hangs at the end of each message answers at its beginning.
        """
        if phase is None or self._timed_out_at is None or PHASES.index(phase) >= PHASES.index(self._timed_out_at):
            self._timed_out_at = None
            self.breaker.record_answer()
        self.answered += 1
        self._latencies.append(seconds)
        self.latency.observe(seconds)

    def record_timeout(self, asked: float) -> None:
        """Count the time-out of a question that was asked at ``asked``, on Trio's clock."""
        self.timeouts += 1
        self.breaker.record_timeout(asked)

    def record_invalid(self) -> None:
        """Count an answer that could not be applied."""
        self.invalid += 1
        self.breaker.record_answer()

    def record(self, use: FilterUse) -> None:
        """Count what a session reports."""
        if use.kind == "opened":
            self.sessions.add(use.session.id)
        elif use.kind == "closed":
            self.sessions.discard(use.session.id)
        else:
            self.asked += 1
        if use.kind == "answered":
            self.record_answer(use.seconds, use.phase)
        elif use.kind == "timeout":
            self._timed_out_at = use.phase
            self.record_timeout(trio.current_time() - use.seconds)
        elif use.kind == "invalid":
            self.record_invalid()
        self.fallbacks += bool(use.failure)

    def close(self) -> None:
        """Leave all as it is: the sessions close their connections."""

    def status(self, connections: int | None = None, outstanding: int = 0) -> dict[str, Any]:
        """Return the figures as a group of deciders has them; ``deciders`` are open connections."""
        return {
            "group": self._key.name,
            "deciders": len(self.sessions) if connections is None else connections,
            "phases": sorted(self._key.phases),
            "outstanding": outstanding,
            "asked": self.asked,
            "answered": self.answered,
            "timeouts": self.timeouts,
            "invalid": self.invalid,
            "fallbacks": self.fallbacks,
            "breaker": "open" if self.breaker.is_open else "closed",
            "latency_ms": percentiles(self._latencies),
        }


class FilterClient(Protocol):
    """Connections to one filter, which all sessions share."""

    figures: FilterFigures

    async def ask(self, request: bytes, seconds: float) -> str:
        """Return the answer.

        :raises NoAnswerError: if there is none that can be applied within ``seconds``.
        """

    def status(self) -> dict[str, Any]:
        """Return the figures of an operator's interest, as a group of deciders has them."""

    def close(self) -> None:
        """Close the connections that are idle, and keep none from now on."""


_Client: TypeAlias = FilterClient | FilterFigures
"""Of a filter that sessions ask themselves there are only the figures."""


@define(slots=True)
class _Entry:
    client: _Client
    users: int = 0

    @property
    def figures(self) -> FilterFigures:
        return self.client if isinstance(self.client, FilterFigures) else self.client.figures


class FilterRegistry:
    """The clients of all filters that a configuration in force names."""

    def __init__(self, limits: HubLimits, emit: Observer) -> None:
        self._limits = limits
        self._emit = emit
        self._entries: dict[FilterKey, _Entry] = {}

    def add(self, key: FilterKey, make: Callable[[FilterKey, HubLimits], FilterClient | FilterFigures]) -> None:
        """Make the client of a filter, unless there is one.  Each call needs a :meth:`release`."""
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(make(key, self._limits))
        entry.users += 1

    def release(self, key: FilterKey) -> None:
        """Close the client of a filter if this was the last configuration that used it."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.users -= 1
            if not entry.users:
                del self._entries[key]
                entry.client.close()

    async def ask(self, question: FilterQuestion) -> FilterAnswer:
        """Ask a filter.  It raises only cancellation.  If there is no answer, that is an event, too."""
        entry = self._entries.get(question.filter)
        try:
            if entry is None or isinstance(entry.client, FilterFigures):
                raise NoAnswerError("the filter is not configured any more")
            return FilterAnswer(await entry.client.ask(question.request, question.timeout))
        except NoAnswerError as error:
            if entry is not None:
                entry.figures.fallbacks += 1
            failure = str(error)
        self._emit_fallback(question.filter, question.session, question.phase, question.fallback, failure)
        return FilterAnswer(failure=failure)

    def _emit_fallback(
        self, key: FilterKey, session: SessionInfo, phase: Phase, fallback: Fallback, failure: str
    ) -> None:
        event = PolicyFallback(session=session, phase=phase, group=key.name, fallback=fallback, failure=failure)
        self._emit(event)

    # Filters that sessions ask themselves

    async def admit(self, key: FilterKey) -> str:
        """Return why a session may not ask a filter itself now; ``""`` if it may."""
        entry = self._entries.get(key)
        if entry is None:
            return "the filter is not configured any more"
        try:
            entry.figures.breaker.admit(trio.current_time())
        except NoAnswerError as error:
            return str(error)
        return ""

    def report(self, use: FilterUse) -> None:
        """Count what a session reports.  If the fallback applied, that is an event, too."""
        entry = self._entries.get(use.filter)
        if entry is not None:
            entry.figures.record(use)
        if use.failure:
            self._emit_fallback(use.filter, use.session, use.phase, use.fallback, use.failure)

    def end_session(self, session: str) -> None:
        """Forget the connections of a session that ended without a report."""
        for entry in self._entries.values():
            entry.figures.sessions.discard(session)

    def status(self) -> list[dict[str, Any]]:
        """Return the figures of each filter."""
        return [{**entry.client.status(), "clients": []} for entry in tuple(self._entries.values())]

    def latencies(self) -> dict[str, Histogram]:
        """Return how long the answers of each filter took, in seconds, by its name; later answers do not touch it."""
        return {key.name: entry.figures.latency.copy() for key, entry in tuple(self._entries.items())}


def percentiles(latencies: Sequence[float]) -> dict[str, float | None]:
    """Return p50 and p99 of latencies in seconds, in milliseconds; None without any."""
    values = sorted(latencies)
    return {f"p{percent}": _percentile(values, percent) for percent in (50, 99)}


def _percentile(values: list[float], percent: int) -> float | None:
    return None if not values else round(values[min(len(values) - 1, len(values) * percent // 100)] * 1000, 3)
