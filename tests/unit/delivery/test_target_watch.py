"""A target that fails is probed until it is available again, and its grace is reported once."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from attrs import define, field

from triosmtp.delivery import Delivery, Discard, TargetHealth, is_probed, watch_target
from triosmtp.event import ServerEvent, TargetChanged


@define(eq=False)
class Probed(Discard):
    """A target whose probes have the given results, the last one for ever."""

    results: list[str]
    probes: list[float] = field(factory=list)
    began: float = 0.0
    work: Callable[[], object] = field(default=lambda: None)

    async def probe(self) -> str:
        self.probes.append(trio.current_time() - self.began)
        await trio.lowlevel.checkpoint()
        self.work()
        return self.results.pop(0) if len(self.results) > 1 else self.results[0]


@asynccontextmanager
async def watched(delivery: Delivery, grace: float = 60) -> AsyncIterator[tuple[TargetHealth, list[ServerEvent]]]:
    events: list[ServerEvent] = []
    health = TargetHealth("hop", grace=grace)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_target, delivery, health, events.append)
        await trio.sleep(1)
        if isinstance(delivery, Probed):
            delivery.began = trio.current_time()
        yield health, events
        nursery.cancel_scope.cancel()


async def test_probes_come_after_5_seconds_and_then_ever_later(autojump_clock: trio.testing.MockClock) -> None:
    delivery = Probed(["refused"])
    async with watched(delivery) as (health, events):
        health.failed("time-out")
        await trio.sleep(59)
        assert events == []
        await trio.sleep(200)
        [event] = events
    assert delivery.probes == pytest.approx([5, 15, 35, 75, 135, 195, 255], abs=0.1)
    assert isinstance(event, TargetChanged)
    assert (event.target, event.available, event.reason, round(event.seconds)) == ("hop", False, "refused", 60)


@pytest.mark.parametrize("by_traffic", [False, True])
async def test_a_target_that_is_available_again_is_not_probed_any_more(
    by_traffic: bool, autojump_clock: trio.testing.MockClock
) -> None:
    delivery = Probed(["refused"] if by_traffic else ["refused", ""])
    async with watched(delivery, grace=10) as (health, events):
        health.failed("time-out")
        await trio.sleep(14)
        assert (health.is_down, len(events)) == (True, 1)
        if by_traffic:
            health.succeeded(0.1)
        await trio.sleep(100)
        assert (health.is_down, health.reason, len(delivery.probes)) == (False, "", 1 if by_traffic else 2)
        [_, event] = events
        assert isinstance(event, TargetChanged)
        assert (event.available, event.reason, round(event.seconds)) == (True, "", 14 if by_traffic else 15)
        health.failed("again")
        await trio.sleep(4)
        health.succeeded()
        await trio.sleep(100)
        assert len(events) == 2


async def test_a_probe_that_fails_or_hangs_is_a_failure(autojump_clock: trio.testing.MockClock) -> None:
    def fail() -> None:
        raise RuntimeError("a bug")

    delivery = Probed([""], work=fail)
    async with watched(delivery) as (health, _):
        health.failed("time-out")
        await trio.sleep(6)
        assert health.reason == "RuntimeError('a bug')"

    class Hanging(Discard):
        async def probe(self) -> str:
            await trio.sleep_forever()
            raise AssertionError

    async with watched(Hanging()) as (health, _):
        health.failed("time-out")
        await trio.sleep(36)
        assert health.reason == "no answer to a probe within 30 s"


async def test_a_new_configuration_continues_to_watch(autojump_clock: trio.testing.MockClock) -> None:
    """A target that failed before fails on, is reported once, and is probed by the new configuration alone."""
    former, delivery = Probed(["refused"]), Probed(["refused", "refused", "", "never"])
    events: list[ServerEvent] = []
    before, health = TargetHealth("hop", grace=30), TargetHealth("hop", grace=30)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_target, former, before, events.append)
        before.failed("time-out")
        await trio.sleep(33)
        assert (before.is_down, len(events), len(former.probes)) == (True, 1, 2)
        health.adopt(before)
        assert (health.is_down, health.reason) == (True, "refused")
        nursery.start_soon(watch_target, delivery, health, events.append)
        await trio.sleep(60)
        assert (len(former.probes), len(delivery.probes)) == (2, 3)
        [_, event] = events
        assert isinstance(event, TargetChanged)
        assert (event.available, round(event.seconds)) == (True, 33 + 35)
        assert not health.is_down
        nursery.cancel_scope.cancel()


async def test_the_grace_goes_on_over_a_new_configuration(autojump_clock: trio.testing.MockClock) -> None:
    delivery, events = Probed(["refused"]), list[ServerEvent]()
    before, health = TargetHealth("hop", grace=30), TargetHealth("hop", grace=30)
    before.failed("time-out")
    await trio.sleep(20)
    health.adopt(before)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_target, delivery, health, events.append)
        await trio.sleep(9)
        assert (health.is_down, events) == (False, [])
        await trio.sleep(2)
        assert (health.is_down, len(events)) == (True, 1)
        nursery.cancel_scope.cancel()


async def test_a_watch_that_has_nothing_to_do_ends_with_its_configuration() -> None:
    before, health = TargetHealth("hop"), TargetHealth("hop")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_target, Probed([""]), before, lambda _: None)
        await trio.testing.wait_all_tasks_blocked()
        before.ready = False
        health.adopt(before)
    assert not health.ready


def test_only_a_delivery_with_a_probe_of_its_own_can_be_unavailable() -> None:
    assert is_probed(Probed([""]))
    assert not is_probed(Discard())
