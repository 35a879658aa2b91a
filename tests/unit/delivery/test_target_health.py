"""The health of a target."""

import pytest
import trio
import trio.testing

from triosmtp.delivery import TargetHealth, TargetState, ended_state, merge_states


async def test_a_target_is_down_when_it_failed_for_its_grace(autojump_clock: trio.testing.MockClock) -> None:
    health = TargetHealth("hop", grace=60)
    assert health.failing_since is None
    health.failed("refused")
    await trio.sleep(59)
    health.failed("time-out")
    assert (health.is_down, health.reason, health.state().answers) == (False, "time-out", {"failed": 2})
    await trio.sleep(1)
    assert health.is_down is True
    health.succeeded()
    assert health.failing_since is None
    health.failed("again")
    assert not health.is_down


def test_the_latency_is_a_mean_of_the_latest_answers() -> None:
    health = TargetHealth("hop")
    assert health.state().latency is None
    health.succeeded(1.0)
    health.succeeded()
    assert health.state().latency == 1.0
    health.succeeded(2.0)
    assert 1.0 < (health.state().latency or 0) < 2.0


def test_deliveries_that_are_only_added_up_count_in_the_latency_and_the_answers() -> None:
    health, same = TargetHealth("maildir:/a"), TargetHealth("maildir:/a")
    for seconds in (1.0, 2.0, 3.0):
        health.deliveries += 1
        health.delivery_seconds += seconds
        health.delivered += 2
    assert (health.state().latency, health.state().answers) == (2.0, {"2xx": 6})
    assert health.state().latency == 2.0  # to read it changes nothing
    health.count(250)
    assert health.state().answers == {"2xx": 7}
    same.succeeded(2.0)
    for _ in range(5):
        health.deliveries += 1
        health.delivery_seconds += 4.0
        same.succeeded(4.0)
    assert health.state().latency == pytest.approx(same.state().latency)


def test_what_a_process_that_ended_has_counted_stays() -> None:
    ended = TargetState("hop", False, 9, "refused", latency=0.1, answers={"2xx": 3}, connections=3)
    now = TargetState("hop", latency=0.2, answers={"2xx": 1}, connections=1)
    assert merge_states([ended_state(ended)], [now]) == (
        TargetState("hop", latency=0.2, answers={"2xx": 4}, connections=1),
    )


def test_states_of_several_processes_are_added_and_the_worst_counts() -> None:
    one = TargetState("hop", answers={"2xx": 1, "failed": 1}, connections=2, latency=0.1)
    two = TargetState("hop", available=False, failing_seconds=70, reason="refused", answers={"2xx": 2}, connections=1)
    other = TargetState("other")
    assert merge_states([one, two, other]) == (
        TargetState(
            "hop", False, 70, "refused", latency=0.1, answers={"2xx": 3, "failed": 1}, connections=3
        ),
        other,
    )  # fmt: skip
    assert merge_states([two, one]) == merge_states([one, two])


async def test_it_is_noted_when_the_target_may_be_available_unlike_before() -> None:
    changes: list[int] = []
    health = TargetHealth("hop", on_change=lambda: changes.append(1))
    health.ready = False
    health.succeeded()
    assert len(changes) == 1
    health.succeeded()
    health.count(250)
    health.count(550, 2)
    health.connections = 3
    assert len(changes) == 1
    health.failed("refused")
    health.succeeded()
    assert len(changes) == 3
    assert (health.state().answers, health.state().connections) == ({"2xx": 1, "5xx": 2, "failed": 1}, 3)


def test_a_target_that_must_answer_first_is_not_available_until_its_first_success() -> None:
    health = TargetHealth("stream")
    health.ready = False
    assert (health.state().available, health.is_down) == (False, False)
    health.succeeded()
    assert health.state().available is True
