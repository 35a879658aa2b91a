"""Both ends of the connections to targets that workers borrow, over real channels."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import trio
from attrs import define

from triosmtp.limits.target_slots import SlotRegistry, TargetSlots
from triosmtp.workers.channel import Channel
from triosmtp.workers.slot_lending import LentSlots, SupervisorLender
from triosmtp.workers.worker_messages import SlotsGranted, SlotsRecalled
from triosmtp.workers.worker_process import WorkerProcess


class Pool:
    """It has no connections."""

    async def close_idle(self) -> bool:
        return False


@define(eq=False)
class Worker:
    """Both ends of one worker."""

    process: WorkerProcess
    slots: TargetSlots


@asynccontextmanager
async def lending(limit: int) -> AsyncIterator[tuple[LentSlots, list[Worker]]]:
    """Run two workers that borrow the slots of one target."""
    lent = LentSlots(2)
    async with trio.open_nursery() as nursery:
        workers = []
        for _ in range(2):
            ours, theirs = (Channel(each, waits=False) for each in socket.socketpair())
            process = cast("WorkerProcess", _Process(ours))
            registry = SlotRegistry(2, SupervisorLender(theirs))
            registry.nursery = nursery
            nursery.start_soon(ours.run, lent.notifications(process), {})
            nursery.start_soon(theirs.run, _handlers(registry), {})
            slots = registry.slots("hop", limit)
            slots.join(Pool())
            workers.append(Worker(process, slots))
        yield lent, workers
        nursery.cancel_scope.cancel()


@define(eq=False)
class _Process:
    channel: Channel


def _handlers(registry: SlotRegistry) -> dict[type, Any]:
    return {
        SlotsGranted: lambda each: registry.grant(each.target, each.number),
        SlotsRecalled: lambda each: registry.recall(each.target, each.keep, each.unused),
    }


async def _begin(worker: Worker) -> None:
    with trio.fail_after(10):
        if not worker.slots.take_now("peer"):
            await worker.slots.wait_for_turn("peer")


async def test_a_slot_goes_from_one_worker_to_the_other() -> None:
    async with lending(1) as (_, (first, second)):
        await _begin(first)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_begin, second)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert second.slots.held == 0
            first.slots.release("peer")
        assert (first.slots.held, second.slots.held) == (0, 1)


async def test_a_worker_that_ended_gives_its_slot_back() -> None:
    async with lending(1) as (lent, (first, second)):
        await _begin(first)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_begin, second)
            await trio.testing.wait_all_tasks_blocked(0.01)
            lent.remove(first.process)
        assert second.slots.held == 1
        lent.remove(second.process)
        lent.remove(second.process)
