"""Work that waits: turns between peers, and the bounds of the queue."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing
from attrs import define, field

from triosmtp.limits.fair_queue import FairQueue, PeerGoneError, QueueFullError


@define
class Queue:
    """A limiter with tasks that wait for a place in it; each keeps its place until it is released."""

    limiter: FairQueue
    nursery: trio.Nursery
    order: list[str] = field(factory=list)
    refused: list[str] = field(factory=list)
    dropped: list[str] = field(factory=list)
    gone: set[str] = field(factory=set)
    leave: dict[str, trio.Event] = field(factory=dict)
    scopes: dict[str, trio.CancelScope] = field(factory=dict)

    async def come(self, *names: str) -> None:
        """Start tasks one after the other; the first letter of a name is the peer's."""
        for name in names:
            self.nursery.start_soon(self._stay, name)
            await trio.testing.wait_all_tasks_blocked()

    async def go(self, *names: str) -> None:
        for name in names:
            self.leave[name].set()
            await trio.testing.wait_all_tasks_blocked()

    async def cancel(self, name: str) -> None:
        self.scopes[name].cancel()
        await trio.testing.wait_all_tasks_blocked()

    async def _stay(self, name: str) -> None:
        self.leave[name], self.scopes[name] = trio.Event(), trio.CancelScope()
        try:
            with self.scopes[name]:
                async with self.limiter.place(name[0], lambda: name in self.gone):
                    self.order.append(name)
                    await self.leave[name].wait()
        except QueueFullError:
            self.refused.append(name)
        except PeerGoneError:
            self.dropped.append(name)


@asynccontextmanager
async def queue(at_once: int, waiting: int, per_peer: int) -> AsyncIterator[Queue]:
    limiter = FairQueue(at_once, waiting=waiting, waiting_per_peer=per_peer)
    async with trio.open_nursery() as nursery:
        yield Queue(limiter, nursery)
        nursery.cancel_scope.cancel()
    assert (limiter.taken, limiter.waiting, len(limiter._queues)) == (0, 0, 0)


async def test_places_go_round_between_the_peers() -> None:
    async with queue(1, 64, 4) as tasks:
        await tasks.come("a0", "a1", "a2", "a3", "a4", "b1", "b2", "c1")
        await tasks.go("a0", "a1", "b1", "c1", "a2", "b2", "a3", "a4")
        assert tasks.order == ["a0", "a1", "b1", "c1", "a2", "b2", "a3", "a4"]
        assert not tasks.refused


async def test_the_queue_is_bounded_in_all_and_for_each_peer() -> None:
    async with queue(2, 6, 4) as tasks:
        await tasks.come("a1", "a2", "a3", "a4", "a5", "a6", "a7")
        assert tasks.refused == ["a7"]
        await tasks.come("b1", "b2")
        assert tasks.limiter.waiting == 6
        # It is full.  Who has less in it takes the place of who has most: of what came last.
        await tasks.come("c1", "a8")
        assert tasks.refused == ["a7", "a6", "a8"]
        await tasks.come("d1", "b3")
        assert tasks.refused == ["a7", "a6", "a8", "a5", "b3"]
        assert tasks.limiter.waiting == 6


async def test_of_equal_peers_the_latest_is_refused() -> None:
    async with queue(1, 3, 4) as tasks:
        await tasks.come("a1", "b1", "c1", "d1", "e1")
        assert tasks.refused == ["e1"]


async def test_a_disconnected_client_is_dropped() -> None:
    async with queue(1, 4, 2) as tasks:
        await tasks.come("a1", "b1", "b2", "c1", "d1")
        tasks.gone |= {"b1", "c1", "e1"}
        await tasks.come("e1")  # has gone before it came
        assert tasks.dropped == ["e1"]
        await tasks.come("b3")  # the queue is full until the disconnected clients are removed from it
        assert (sorted(tasks.dropped), tasks.refused) == (["b1", "c1", "e1"], [])
        tasks.gone |= {"b2"}
        await tasks.go("a1", "b3", "d1")
        assert tasks.order == ["a1", "b3", "d1"]
        assert tasks.dropped[-1] == "b2"


async def test_a_cancelled_attempt_leaves_no_state() -> None:
    async with queue(1, 4, 2) as tasks:
        await tasks.come("a1", "b1", "c1")
        await tasks.cancel("b1")
        assert tasks.limiter.waiting == 1
        # The place is given, and its new owner is cancelled before it has run: the next one gets it.
        await tasks.come("d1")
        tasks.leave["a1"].set()
        await trio.testing.wait_all_tasks_blocked()
        await tasks.cancel("c1")
        assert tasks.order == ["a1", "c1", "d1"]


async def test_an_attempt_cancelled_when_admitted_passes_on_its_place() -> None:
    for _ in range(50):  # trio runs the two tasks in either order
        async with queue(1, 4, 2) as tasks:
            await tasks.come("a1", "b1", "c1")
            tasks.scopes["b1"].cancel()
            await tasks.go("a1")
            assert tasks.order == ["a1", "c1"]
