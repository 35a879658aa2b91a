"""The time limits of a session, on times that are given."""

from math import inf

import pytest

from triosmtp.limits.timeouts import SessionTimeouts


def waiting(since: float = 0.0, *, min_rate: int = 0, max_session_time: float = 0) -> SessionTimeouts:
    timeouts = SessionTimeouts(60, min_rate=min_rate, max_session_time=max_session_time)
    timeouts.since = since
    return timeouts


def test_idle_after_idle_time_and_once_alone() -> None:
    timeouts = waiting(100.0)
    assert [timeouts.check(now, 0) for now in (100, 160, 160.1, 500)] == [None, None, "idle", None]
    assert timeouts.expired == "idle"


def test_time_of_a_policy_or_a_delivery_is_not_the_peers() -> None:
    timeouts = waiting(inf, max_session_time=1000)
    assert timeouts.check(1e9, 1) is None


@pytest.mark.parametrize("sending", [False, True])
def test_replies_are_sent_though_the_session_has_lasted_too_long(sending: bool) -> None:
    timeouts = waiting(990.0, max_session_time=1000)
    assert timeouts.check(999, 0, sending=sending) is None
    assert timeouts.check(1000, 0, sending=sending) == (None if sending else "max_session_time")


def arrive(timeouts: SessionTimeouts, seconds: int, octets: int, *, every: int = 1, message: int = 1) -> str | None:
    for now in range(seconds + 1):
        if now % every == 0:
            timeouts.octets += octets
            timeouts.since = now
        if timeouts.check(now, message):
            return timeouts.expired
    return None


def test_a_message_below_the_rate_is_slow_and_one_above_it_is_not() -> None:
    assert arrive(waiting(min_rate=100), 40, 99) == "slow"
    assert arrive(waiting(min_rate=100), 400, 101) is None
    assert arrive(waiting(), 400, 1) is None


def test_no_rate_is_asked_of_commands() -> None:
    assert arrive(waiting(min_rate=100), 400, 1, message=0) is None


def test_silences_have_a_limit_in_sum() -> None:
    assert arrive(waiting(min_rate=100), 150, 1, every=10) is None
    assert arrive(waiting(min_rate=100), 200, 1, every=10) == "slow"  # three times Idle_Time


def test_the_next_message_resets_the_timer() -> None:
    timeouts = waiting(min_rate=100)
    for message in range(1, 20):
        for now in range(message * 20, message * 20 + 20):
            timeouts.octets += 1
            timeouts.since = now
            assert timeouts.check(now, message) is None


def test_other_limits_apply_from_now_on() -> None:
    timeouts = waiting(0.0)
    timeouts.change(600, min_rate=0)
    assert timeouts.check(61, 0) is None
    assert timeouts.check(601, 0) == "idle"
