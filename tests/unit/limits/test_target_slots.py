"""The connections to a target: in one process, and borrowed by several, which are simulated with their messages."""

from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from functools import partial
from random import Random

import pytest
import trio
import trio.testing

from triosmtp.limits.slot_allocator import SlotAllocator
from triosmtp.limits.target_slots import SlotRegistry, TargetSlots


class Pool:
    """Uses slots as the pool of a next hop does; ``opened`` is called with the change of the number of connections."""

    def __init__(self, slots: TargetSlots, opened: Callable[[int], None] = lambda _: None) -> None:
        self.slots = slots
        self.opened = opened
        self.idle = 0
        slots.join(self)

    async def close_idle(self) -> bool:
        if not self.idle:
            return False
        self.idle -= 1
        await trio.sleep(0.001)  # QUIT
        self.opened(-1)
        self.slots.count_out()
        return True

    @asynccontextmanager
    async def use(self, peer: Hashable) -> AsyncIterator[None]:
        if not self.slots.take_now(peer):
            await self.slots.wait_for_turn(peer)
        try:
            if self.idle:
                self.idle -= 1
            else:
                await self.slots.reserve(self)
                self.opened(+1)
            yield
            self.idle += 1
        finally:
            self.slots.release(peer)


class Supervisor:
    """Processes with an allocator; each message takes a while, and those of one process stay in order."""

    def __init__(self, limit: int, processes: int, nursery: trio.Nursery) -> None:
        self.limit = limit
        self.nursery = nursery
        self.allocator = SlotAllocator(limit, processes, self._grant, self._recall)
        self.links: dict[object, trio.MemorySendChannel[Callable[[], object]]] = {}
        self.registries: list[SlotRegistry] = []
        self.pools: list[Pool] = []
        self.open = self.most = 0
        self.waits: list[float] = []
        for number in range(processes):
            registry = SlotRegistry(processes, _Lender(self, number))
            registry.nursery = nursery
            self.registries.append(registry)
            self.pools.append(Pool(registry.slots("hop", limit), self.count))

    def count(self, change: int) -> None:
        self.open += change
        self.most = max(self.most, self.open)

    def later(self, link: object, function: Callable[..., object], *arguments: object) -> None:
        if link not in self.links:
            self.links[link], messages = trio.open_memory_channel[Callable[[], object]](1000)
            self.nursery.start_soon(self._carry, messages)
        self.links[link].send_nowait(partial(function, *arguments))

    async def _carry(self, messages: trio.MemoryReceiveChannel[Callable[[], object]]) -> None:
        async for each in messages:
            await trio.sleep(0.001)
            each()

    def _grant(self, process: Hashable, number: int) -> None:
        self.later(process, self.registries[process].grant, "hop", number)  # type: ignore[call-overload]

    def _recall(self, process: Hashable, keep: int | None, unused: int) -> None:
        self.later(process, self.registries[process].recall, "hop", keep, unused)  # type: ignore[call-overload]

    async def step(self, process: int, peer: Hashable, seconds: float) -> None:
        began = trio.current_time()
        async with self.pools[process].use(peer):
            self.waits.append(trio.current_time() - began)
            await trio.sleep(seconds)


class _Lender:
    def __init__(self, supervisor: Supervisor, number: int) -> None:
        self._supervisor = supervisor
        self._number = number

    def want(self, _key: str, wanted: int, limit: int) -> None:
        self._supervisor.later(self, self._supervisor.allocator.want, self._number, wanted, limit)

    def give_back(self, _key: str, number: int, wanted: int) -> None:
        self._supervisor.later(self, self._supervisor.allocator.give_back, self._number, number, wanted)


@asynccontextmanager
async def processes(limit: int, number: int) -> AsyncIterator[Supervisor]:
    async with trio.open_nursery() as nursery:
        yield Supervisor(limit, number, nursery)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("limit", "number"), [(1, 2), (1, 4), (2, 2), (3, 2), (3, 4), (5, 4), (20, 3)])
@pytest.mark.parametrize("seed", range(4))
async def test_never_too_many_and_nobody_waits_long(
    limit: int, number: int, seed: int, autojump_clock: trio.testing.MockClock
) -> None:
    random = Random(seed)
    async with processes(limit, number) as site:

        async def client(process: int, peer: int) -> None:
            for _ in range(40):
                await site.step(process, peer, random.choice([0.001, 0.01, 0.05]))
                await trio.sleep(random.choice([0.0, 0.0, 0.002, 0.1]))

        with trio.fail_after(100):
            async with trio.open_nursery() as clients:
                for peer in range(3 * number):
                    clients.start_soon(client, random.choice([0, random.randrange(number)]), peer)
        assert site.most <= limit
        assert len(site.waits) == 120 * number
        assert max(site.waits) < 3


async def test_an_idle_connection_is_closed_if_another_process_needs_its_slot(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with processes(2, 2) as site:
        async with trio.open_nursery() as clients:
            for peer in range(2):
                clients.start_soon(site.step, 0, peer, 0.1)
        assert site.pools[0].slots.held == 2
        await site.step(1, 2, 0.1)
        assert site.waits[-1] < 0.01
        assert (site.open, site.most) == (2, 2)
        await site.step(1, 2, 0.1)
        assert site.waits[-1] == 0, "it keeps its slot while nobody needs it"


@pytest.mark.parametrize("is_removed", [False, True])
async def test_the_slots_of_a_target_that_a_process_has_no_more_are_given_back(
    is_removed: bool, autojump_clock: trio.testing.MockClock
) -> None:
    async with processes(1, 2) as site:
        await site.step(0, "a", 0.1)
        first = site.pools[0]
        if not is_removed:  # the pool of another configuration uses it
            site.pools[0] = Pool(first.slots, site.count)
        await first.close_idle()
        first.slots.leave(first)
        await trio.sleep(1)
        assert site.allocator.is_unused is is_removed


async def test_two_configurations_of_one_process_share_the_slots() -> None:
    registry = SlotRegistry()
    before, after = (Pool(registry.slots("hop", 2)) for _ in range(2))
    assert before.slots is after.slots
    async with before.use("a"), before.use("b"):
        pass
    assert before.idle == 2
    async with after.use("a"):
        assert (before.idle, before.slots.open) == (1, 2)
    after.slots.set_limit(1)
    async with after.use("a"):
        assert after.slots.has_too_many
        assert after.slots.is_full
    assert registry.slots("other", 2) is not before.slots
    assert registry.slots("none", 0).held > 1000


async def test_steps_of_a_lowered_limit_end_before_others_begin(autojump_clock: trio.testing.MockClock) -> None:
    slots = TargetSlots(2)
    pool = Pool(slots)
    order: list[str] = []

    async def step(name: str) -> None:
        async with pool.use(name):
            order.append(name)
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(step, "a")
        nursery.start_soon(step, "b")
        await trio.testing.wait_all_tasks_blocked()
        slots.set_limit(1)
        nursery.start_soon(step, "c")
        nursery.start_soon(step, "d")
        await trio.testing.wait_all_tasks_blocked()
        assert set(order) == {"a", "b"}
        assert slots.has_too_many
    assert trio.current_time() == pytest.approx(3, abs=0.1)
    assert sorted(order) == list("abcd")


async def test_half_of_the_connections_are_for_one_address() -> None:
    slots = TargetSlots(3)
    assert [slots.take_now("a") for _ in range(3)] == [True, True, False]
    assert [slots.take_now("b") for _ in range(2)] == [True, False]
    part = TargetSlots(20, processes=4)
    assert [part.take_now("a") for _ in range(4)] == [True, True, True, False]


async def test_a_step_that_is_cancelled_as_it_may_begin_returns_its_slot() -> None:
    returned: list[int] = []

    class Lender:
        def want(self, key: str, wanted: int, limit: int) -> None:
            pass

        def give_back(self, key: str, number: int, wanted: int) -> None:
            returned.append(number)

    async with trio.open_nursery() as nursery:
        registry = SlotRegistry(2, Lender())
        registry.nursery = nursery
        slots = registry.slots("hop", 1)
        Pool(slots)
        slots.grant(1)
        assert slots.take_now("a")
        scope = trio.CancelScope()

        async def wait() -> None:
            with scope:
                await slots.wait_for_turn("b")

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        slots.recall(1, 1)  # another process needs the slot as soon as it is unused
        scope.cancel()
        slots.release("a")  # "b" receives the place, and is cancelled already
        await trio.testing.wait_all_tasks_blocked()
        assert (returned, slots.held) == ([1], 0)
