"""The circuit breaker: when it opens, when it admits a probe, and when it closes."""

import pytest

from triosmtp.policy_service.circuit_breaker import CircuitBreaker, NoAnswerError


def opened() -> CircuitBreaker:
    """Return a breaker that two time-outs have opened: the later question was asked at 101."""
    breaker = CircuitBreaker(2, 10.0)
    for asked in (100.0, 101.0):
        breaker.admit(asked)
        breaker.record_timeout(asked)
    return breaker


def test_it_opens_after_time_outs_in_a_row() -> None:
    breaker = CircuitBreaker(2, 10.0)
    breaker.record_timeout(1.0)
    breaker.record_answer()
    breaker.record_timeout(2.0)
    assert not breaker.is_open
    breaker.admit(2.0)
    breaker.record_timeout(2.0)
    assert breaker.is_open


def test_an_open_breaker_admits_one_probe_in_each_interval() -> None:
    breaker = opened()
    with pytest.raises(NoAnswerError, match="open after 2 time-outs in a row"):
        breaker.admit(110.9)
    breaker.admit(111.0)
    with pytest.raises(NoAnswerError):
        breaker.admit(120.9)
    breaker.admit(121.0)


def test_an_answer_closes_it() -> None:
    breaker = opened()
    breaker.record_answer()
    assert not breaker.is_open
    breaker.admit(101.0)
    breaker.record_timeout(101.0)
    assert not breaker.is_open


def test_after_allow_probe_one_time_out_opens_it_again() -> None:
    breaker = opened()
    breaker.allow_probe()
    breaker.admit(102.0)
    breaker.record_timeout(102.0)
    assert breaker.is_open
    unused = CircuitBreaker(2, 10.0)
    unused.allow_probe()
    unused.record_timeout(1.0)
    assert not unused.is_open
