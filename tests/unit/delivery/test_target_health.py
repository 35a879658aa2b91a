"""The health of a target."""

import math

import trio
import trio.testing

from triosmtp.delivery import TargetHealth


async def test_a_target_is_down_when_it_failed_for_its_grace(autojump_clock: trio.testing.MockClock) -> None:
    health = TargetHealth("hop", grace=60)
    assert health.failing_since is None
    health.failed("refused")
    await trio.sleep(59)
    health.failed("time-out")
    assert (health.is_down, health.reason, health.answers["failed"]) == (False, "time-out", 2)
    await trio.sleep(1)
    assert health.is_down is True
    health.succeeded()
    assert health.failing_since is None
    health.failed("again")
    assert not health.is_down


def test_the_latency_is_a_mean_of_the_latest_answers() -> None:
    health = TargetHealth("hop")
    assert math.isnan(health.latency)
    health.succeeded(1.0)
    health.succeeded()
    assert health.latency == 1.0
    health.succeeded(2.0)
    assert 1.0 < health.latency < 2.0
