"""The connections to targets that workers borrow from their supervisor, so that a limit is one of all workers."""

from collections.abc import Hashable
from functools import partial
from typing import Any, cast

from triosmtp.limits.slot_allocator import SlotAllocator
from triosmtp.workers.channel import Channel
from triosmtp.workers.worker_messages import SlotsGranted, SlotsRecalled, SlotsReturned, SlotsWanted
from triosmtp.workers.worker_process import WorkerProcess

__all__ = ["LentSlots", "SupervisorLender"]


class SupervisorLender:
    """In a worker: borrows slots from the supervisor at the other end of ``channel``."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def want(self, key: str, wanted: int, limit: int) -> None:
        """Report that this process could use ``wanted`` slots, of ``limit`` for all processes."""
        self._channel.send_now(SlotsWanted(key, wanted, limit))

    def give_back(self, key: str, number: int, wanted: int) -> None:
        """Return ``number`` slots, and report that this process could use ``wanted``."""
        self._channel.send_now(SlotsReturned(key, number, wanted))


class LentSlots:
    """In the supervisor: the slots of all targets, for ``workers`` workers."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._targets: dict[str, SlotAllocator] = {}

    def notifications(self, worker: WorkerProcess) -> dict[type, Any]:
        """Return the handlers of a worker's notifications about slots."""
        return {SlotsWanted: partial(self._want, worker), SlotsReturned: partial(self._give_back, worker)}

    def _want(self, worker: WorkerProcess, message: SlotsWanted) -> None:
        target = self._targets.get(message.target)
        if target is None:
            target = self._targets[message.target] = SlotAllocator(
                message.limit, self._workers, partial(_grant, message.target), partial(_recall, message.target)
            )
        target.want(worker, message.wanted, message.limit)

    def _give_back(self, worker: WorkerProcess, message: SlotsReturned) -> None:
        target = self._targets[message.target]
        target.give_back(worker, message.number, message.wanted)
        if target.is_unused:
            del self._targets[message.target]

    def remove(self, worker: WorkerProcess) -> None:
        """Take back all slots of a worker that has ended: the kernel has closed its connections."""
        for key, target in tuple(self._targets.items()):
            target.remove(worker)
            if target.is_unused:
                del self._targets[key]


def _grant(key: str, worker: Hashable, number: int) -> None:
    cast("WorkerProcess", worker).channel.send_now(SlotsGranted(key, number))


def _recall(key: str, worker: Hashable, keep: int | None, unused: int) -> None:
    cast("WorkerProcess", worker).channel.send_now(SlotsRecalled(key, keep, unused))
