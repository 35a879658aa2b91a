"""The filters that the server connects to and asks: their clients, by name, for all sessions of all workers.

A session asks with a :class:`FilterQuestion` and receives a :class:`FilterAnswer`: values, because with Workers the
registry is in the supervisor.  So the bound on connections, the circuit breaker, and the figures are those of the
whole server.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from attrs import define, field, frozen

from triosmtp.event import Observer, PolicyFallback, SessionInfo
from triosmtp.histogram import Histogram
from triosmtp.policy.interface import Phase
from triosmtp.policy_service.circuit_breaker import NoAnswerError
from triosmtp.policy_service.hub_limits import HubLimits
from triosmtp.policy_service.question import Fallback

__all__ = [
    "LATENCIES", "FilterAnswer", "FilterClient", "FilterKey", "FilterQuestion", "FilterRegistry", "percentiles",
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


class FilterClient(Protocol):
    """Connections to one filter."""

    latency: Histogram
    """How long answers that could be applied took, in seconds."""
    fallbacks: int

    async def ask(self, request: bytes, seconds: float) -> str:
        """Return the answer.

        :raises NoAnswerError: if there is none that can be applied within ``seconds``.
        """

    def status(self) -> dict[str, Any]:
        """Return the figures of an operator's interest, as a group of deciders has them."""

    def close(self) -> None:
        """Close the connections that are idle, and keep none from now on."""


@define(slots=True)
class _Entry:
    client: FilterClient
    users: int = 0


class FilterRegistry:
    """The clients of all filters that a configuration in force names."""

    def __init__(self, limits: HubLimits, emit: Observer) -> None:
        self._limits = limits
        self._emit = emit
        self._entries: dict[FilterKey, _Entry] = {}

    def add(self, key: FilterKey, make: Callable[[FilterKey, HubLimits], FilterClient]) -> None:
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
            if entry is None:
                raise NoAnswerError("the filter is not configured any more")
            return FilterAnswer(await entry.client.ask(question.request, question.timeout))
        except NoAnswerError as error:
            if entry is not None:
                entry.client.fallbacks += 1
            failure = str(error)
        event = PolicyFallback(
            session=question.session,
            phase=question.phase,
            group=question.filter.name,
            fallback=question.fallback,
            failure=failure,
        )
        self._emit(event)
        return FilterAnswer(failure=failure)

    def status(self) -> list[dict[str, Any]]:
        """Return the figures of each filter."""
        return [{**entry.client.status(), "clients": []} for entry in tuple(self._entries.values())]

    def latencies(self) -> dict[str, Histogram]:
        """Return how long the answers of each filter took, in seconds, by its name; later answers do not touch it."""
        return {key.name: entry.client.latency.copy() for key, entry in tuple(self._entries.items())}


def percentiles(latencies: Sequence[float]) -> dict[str, float | None]:
    """Return p50 and p99 of latencies in seconds, in milliseconds; None without any."""
    values = sorted(latencies)
    return {f"p{percent}": _percentile(values, percent) for percent in (50, 99)}


def _percentile(values: list[float], percent: int) -> float | None:
    return None if not values else round(values[min(len(values) - 1, len(values) * percent // 100)] * 1000, 3)
