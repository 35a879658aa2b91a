"""The registry of filters: one client for all configurations that name a filter, closed after the last one."""

from typing import Any

import pytest

from triosmtp.event import PolicyFallback, ServerEvent, SessionInfo
from triosmtp.policy_service.circuit_breaker import CircuitBreaker, NoAnswerError
from triosmtp.policy_service.filter_registry import (
    FilterFigures,
    FilterKey,
    FilterQuestion,
    FilterRegistry,
    FilterUse,
)
from triosmtp.policy_service.hub_limits import HubLimits

KEY = FilterKey("filter:x", "policyd:unix:/x", ("rcptto",))
SESSION = SessionInfo(id="1", peer="192.0.2.1:1", local="192.0.2.2:25", listener=":25")
QUESTION = FilterQuestion(filter=KEY, session=SESSION, phase="rcptto", request=b"", timeout=1, fallback="tempfail")


class Client:
    def __init__(self, key: FilterKey, limits: HubLimits) -> None:
        self.key = key
        self.figures = FilterFigures(key, limits)
        self.closed = False

    async def ask(self, request: bytes, _seconds: float) -> str:
        if request:
            raise NoAnswerError("no")
        return "OK"

    def status(self) -> dict[str, Any]:
        return {"group": self.key.name}

    def close(self) -> None:
        self.closed = True


async def test_a_client_is_shared_and_closed_after_its_last_configuration() -> None:
    events: list[ServerEvent] = []
    registry = FilterRegistry(HubLimits(), events.append)
    made: list[Client] = []

    def make(key: FilterKey, limits: HubLimits) -> Client:
        made.append(Client(key, limits))
        return made[-1]

    registry.add(KEY, make)
    registry.add(KEY, make)
    assert len(made) == 1
    registry.release(KEY)
    assert (await registry.ask(QUESTION)).text == "OK"
    assert [each.closed for each in made] == [False]
    registry.release(KEY)
    assert [each.closed for each in made] == [True]
    assert registry.status() == []
    assert (await registry.ask(QUESTION)).failure == "the filter is not configured any more"
    event = events[-1]
    assert isinstance(event, PolicyFallback)
    assert (event.group, event.fallback, event.session) == ("filter:x", "tempfail", SESSION)


async def test_sessions_report_what_they_ask_themselves() -> None:
    events: list[ServerEvent] = []
    registry = FilterRegistry(HubLimits(breaker_timeouts=2), events.append)
    assert await registry.admit(KEY) == "the filter is not configured any more"
    registry.add(KEY, FilterFigures)
    assert await registry.admit(KEY) == ""
    registry.report(FilterUse(filter=KEY, session=SESSION, kind="opened"))
    registry.report(FilterUse(filter=KEY, session=SESSION, kind="answered", phase="ehlo", seconds=0.25))
    registry.report(FilterUse(filter=KEY, session=SESSION, kind="invalid", phase="data", failure="it was odd"))
    (status,) = registry.status()
    assert {key: status[key] for key in ("deciders", "asked", "answered", "invalid", "fallbacks", "breaker")} == {
        "deciders": 1, "asked": 2, "answered": 1, "invalid": 1, "fallbacks": 1, "breaker": "closed",
    }  # fmt: skip
    assert status["latency_ms"] == {"p50": 250.0, "p99": 250.0}
    assert [(e.phase, e.failure) for e in events if isinstance(e, PolicyFallback)] == [("data", "it was odd")]
    for _ in range(2):
        registry.report(
            FilterUse(filter=KEY, session=SESSION, kind="timeout", phase="data", seconds=11, failure="late")
        )
    assert await registry.admit(KEY) == ""  # the probe: the last question was asked 11 s ago
    registry.report(FilterUse(filter=KEY, session=SESSION, kind="timeout", phase="data", seconds=0, failure="late"))
    assert "circuit breaker is open" in await registry.admit(KEY)
    assert (await registry.ask(QUESTION)).failure == "the filter is not configured any more"  # it has no client
    registry.report(FilterUse(filter=KEY, session=SESSION, kind="answered", phase="connect"))
    assert "circuit breaker is open" in await registry.admit(KEY)  # the time-outs were at a later phase
    registry.report(FilterUse(filter=KEY, session=SESSION, kind="answered", phase="data_spool"))
    assert await registry.admit(KEY) == ""
    registry.end_session("1")
    assert registry.status()[0]["deciders"] == 0
    registry.report(FilterUse(filter=KEY, session=SESSION, kind="opened"))
    registry.report(FilterUse(filter=KEY, session=SESSION, kind="closed"))
    assert registry.status()[0]["deciders"] == 0


def test_the_breaker_lets_one_probe_through_until_an_answer() -> None:
    breaker = CircuitBreaker(timeouts=2, seconds=10)
    for now in (0.0, 1.0):
        breaker.admit(now)
        breaker.record_timeout(now)
    with pytest.raises(NoAnswerError, match="open after 2 time-outs"):
        breaker.admit(10.9)
    breaker.admit(11.0)
    with pytest.raises(NoAnswerError):
        breaker.admit(12.0)
    breaker.record_answer()
    breaker.admit(12.0)
    assert not breaker.is_open
