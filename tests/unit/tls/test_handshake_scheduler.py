"""Steps of handshakes go on in turns, so that those who are in no handshake have theirs."""

import sys
from functools import partial
from itertools import pairwise

import pytest
import trio
from tls_peers import client_context, meet, server_context

from triosmtp.errors import HandshakeError
from triosmtp.tls.handshake import handshake
from triosmtp.tls.handshake_scheduler import HandshakeScheduler


class Rounds:
    """Steps that take the time that is said, counted between two rounds of another task."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = [0]
        self.order: list[int] = []
        self._begun = [0]  # the index in `order` at which each round begins
        self.turns = HandshakeScheduler(lambda: self.now)

    def step(self, number: int, seconds: float) -> int:
        self.now += seconds
        self.steps[-1] += 1
        self.order.append(number)
        return number

    async def watch(self) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            self.steps.append(0)
            self._begun.append(len(self.order))

    def parts(self) -> list[list[int]]:
        """Return the steps of each round."""
        return [self.order[start:stop] for start, stop in pairwise([*self._begun, len(self.order)])]

    async def run(self, *seconds: float) -> None:
        async def one(number: int) -> None:
            assert await self.turns.run(partial(self.step, number, seconds[number]), lambda: False) == number

        async with trio.open_nursery() as watching:
            watching.start_soon(self.watch)
            async with trio.open_nursery() as nursery:
                for number in range(len(seconds)):
                    nursery.start_soon(one, number)
            watching.cancel_scope.cancel()
        assert sorted(self.order) == list(range(len(seconds)))


# A task that has waited for the end of a round takes its next step in the new round, too.
@pytest.mark.parametrize(("seconds", "most"), [(0.02, 2), (0.006, 4), (0.001, 26)])
async def test_a_round_has_few_of_them(seconds: float, most: int) -> None:
    rounds = Rounds()
    await rounds.run(*[seconds] * 300)
    assert max(rounds.steps[:-1]) <= most


async def test_short_ones_do_not_let_many_long_ones_in() -> None:
    rounds = Rounds()
    await rounds.run(*[0.02, 0.0001] * 100)
    assert max(rounds.steps[:-1]) <= 32
    long = [sum(number % 2 == 0 for number in part) for part in rounds.parts()]
    assert max(long) <= 2


async def test_one_that_is_short_does_not_wait() -> None:
    rounds = Rounds()
    with trio.CancelScope() as scope:
        scope.cancel()  # all that wait are cancelled
        for number in range(5):
            assert await rounds.turns.run(partial(rounds.step, number, 0.001), lambda: False) == number
    assert not scope.cancelled_caught


async def test_those_that_do_not_wait_any_longer_leave_the_others_their_turn() -> None:
    rounds = Rounds()
    ends: list[str] = []

    async def one(number: int, scope: trio.CancelScope) -> None:
        with scope:
            try:
                await rounds.turns.run(partial(rounds.step, number, 0.02), lambda: number % 3 == 1)
            except HandshakeError as error:
                ends.append(error.reason)

    scopes = [trio.CancelScope() for _ in range(90)]
    async with trio.open_nursery() as nursery:
        for number, scope in enumerate(scopes):
            nursery.start_soon(one, number, scope)
        await trio.lowlevel.checkpoint()
        for scope in scopes[2::3]:
            scope.cancel()
    assert set(ends) == {"peer_closed"}
    assert set(range(0, 90, 3)) <= set(rounds.order)
    assert 0 < sum(scope.cancelled_caught for scope in scopes) <= 30
    assert len(rounds.order) + len(ends) + sum(scope.cancelled_caught for scope in scopes) == 90


async def test_handshakes_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were each step a long one, no two would be in one round."""
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 1.0
        return now

    waited = 0

    class Counted(HandshakeScheduler):
        async def _wait(self, *, again: bool) -> None:
            nonlocal waited
            waited += 1
            await super()._wait(again=again)

    monkeypatch.setattr(sys.modules[handshake.__module__], "HANDSHAKE_SCHEDULER", Counted(clock))
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(meet, server_context(), client_context())
    assert waited > 10


async def test_a_turn_within_a_read_ends_the_round_and_the_others_go_on() -> None:
    scheduler = HandshakeScheduler(lambda: 0.0)
    order: list[str] = []
    await scheduler.wait_turn()
    scheduler.end_turn(0.02)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scheduler.run, partial(order.append, "step"), lambda: False)
            assert scheduler._ending
            assert order == []
        await scheduler.wait_turn()
        scheduler.end_turn(0.001)
    assert order == ["step"]
    assert not scheduler._ending
