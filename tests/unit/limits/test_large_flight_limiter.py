"""The limiter of large flights: two at once, one of each peer, in turns; of huge ones sixteen wait."""

import threading
from collections.abc import Hashable

import trio
import trio.testing

from triosmtp.errors import HandshakeError
from triosmtp.limits.large_flight_limiter import LargeFlightLimiter


class Work:
    """Threads that are held until the test lets them go."""

    def __init__(self, limiter: LargeFlightLimiter, nursery: trio.Nursery) -> None:
        self.limiter = limiter
        self.nursery = nursery
        self.begun: list[str] = []
        self.refused: list[str] = []
        self.gone: set[str] = set()
        self.reasons: set[str] = set()
        self.events: dict[str, threading.Event] = {}

    async def submit(self, name: str, peer: Hashable, size: int = 10_000) -> trio.CancelScope:
        """Begin to ask for a thread; return when it was got, or is waited for."""
        scope = trio.CancelScope()
        self.events[name] = threading.Event()
        self.nursery.start_soon(self._run, scope, name, peer, size)
        await trio.testing.wait_all_tasks_blocked()
        return scope

    async def end(self, name: str) -> None:
        """Let a thread come to its end, and wait for what follows of that."""
        running = len(self.begun)
        self.events[name].set()
        expected = bool(self.limiter.waiting)
        while name in self.begun or (expected and len(self.begun) < running):
            await trio.testing.wait_all_tasks_blocked(0.01)

    async def _run(self, scope: trio.CancelScope, name: str, peer: Hashable, size: int) -> None:
        try:
            with scope:
                async with self.limiter.place(peer, lambda: name in self.gone, size):
                    await trio.to_thread.run_sync(self._work, name)
        except HandshakeError as error:
            self.reasons.add(error.reason)
            self.refused.append(name)

    def _work(self, name: str) -> None:
        self.begun.append(name)
        assert self.events[name].wait(20)
        self.begun.remove(name)

    async def begun_are(self, *names: str) -> None:
        with trio.fail_after(10):
            while sorted(self.begun) != sorted(names):
                await trio.testing.wait_all_tasks_blocked(0.01)


def release_all(work: Work) -> None:
    for event in work.events.values():
        event.set()


async def test_two_at_once_and_one_of_each_peer() -> None:
    async with trio.open_nursery() as nursery:
        work = Work(LargeFlightLimiter(), nursery)
        try:
            await work.submit("a1", "a")
            await work.submit("a2", "a")
            await work.begun_are("a1")
            assert (work.limiter.taken, work.limiter.waiting) == (1, 1)
            await work.submit("b1", "b")
            await work.begun_are("a1", "b1")
            await work.submit("c1", "c")
            await work.begun_are("a1", "b1")
            assert (work.limiter.taken, work.limiter.waiting) == (2, 2)
            await work.end("b1")  # a has a thread already: c's turn, though a2 was here before
            await work.begun_are("a1", "c1")
            await work.end("a1")
            await work.begun_are("a2", "c1")
        finally:
            release_all(work)
    assert (work.limiter.taken, work.limiter.waiting) == (0, 0)


async def test_peers_take_turns_however_many_one_of_them_has() -> None:
    async with trio.open_nursery() as nursery:
        work = Work(LargeFlightLimiter(), nursery)
        try:
            await work.submit("held", "h")
            for name in ("a1", "a2", "a3", "a4", "b1"):
                await work.submit(name, name[0])
            await work.begun_are("held", "a1")
            for ended, next_one in (("a1", "a2"), ("a2", "b1"), ("b1", "a3")):
                await work.end(ended)
                await work.begun_are("held", next_one)
        finally:
            release_all(work)


async def test_the_flight_of_a_disconnected_client_is_not_verified() -> None:
    async with trio.open_nursery() as nursery:
        work = Work(LargeFlightLimiter(), nursery)
        try:
            for name in ("a1", "a2", "a3"):
                await work.submit(name, "a")
            work.gone.add("a2")
            await work.end("a1")
            await work.begun_are("a3")
            assert work.refused == ["a2"]
            assert work.reasons == {"peer_closed"}
        finally:
            release_all(work)


async def test_sixteen_huge_flights_wait_and_the_peer_with_most_of_them_is_refused() -> None:
    async with trio.open_nursery() as nursery:
        work = Work(LargeFlightLimiter(), nursery)
        try:
            for number in range(17):
                await work.submit(f"a{number}", "a", 50_000)
            assert (work.limiter.taken, work.limiter.waiting, work.refused) == (1, 16, [])
            await work.submit("a17", "a", 50_000)
            assert work.refused == ["a17"]
            assert work.reasons == {"verification_queue_full"}
            await work.submit("b0", "b", 50_000)  # runs: it waits for nobody
            await work.submit("b1", "b", 50_000)
            assert work.refused == ["a17", "a16"]
            assert work.limiter.waiting == 16
            await work.submit("a18", "a", 32_768)  # what is not huge waits as long as its handshake has time
            assert work.limiter.waiting == 17
            assert work.refused == ["a17", "a16"]
        finally:
            release_all(work)


async def test_a_cancelled_waiter_holds_no_place() -> None:
    async with trio.open_nursery() as nursery:
        work = Work(LargeFlightLimiter(), nursery)
        try:
            await work.submit("a1", "a")
            scope = await work.submit("a2", "a")
            await work.submit("a3", "a")
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert work.limiter.waiting == 1
            await work.end("a1")
            await work.begun_are("a3")
        finally:
            release_all(work)
    assert (work.limiter.taken, work.limiter.waiting) == (0, 0)


async def test_a_cancelled_holder_frees_its_place_when_its_thread_ends() -> None:
    async with trio.open_nursery() as nursery:
        work = Work(LargeFlightLimiter(), nursery)
        try:
            scope = await work.submit("a1", "a")
            await work.submit("a2", "a")
            await work.begun_are("a1")
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert (work.limiter.taken, work.limiter.waiting) == (1, 1)
            await work.end("a1")
            await work.begun_are("a2")
        finally:
            release_all(work)
