"""Steps of handshakes on the event loop: some milliseconds of them, then all other tasks have their turn.

A step takes a millisecond, or up to 16 with a hostile chain of certificates (:mod:`.large_flight`).  Trio runs all
tasks that have something to do before it looks for input again.  A thousand clients may send such a flight at once,
each from an address of its own.  Without turns, no other client would be served until all these steps are done.
"""

from collections import OrderedDict
from collections.abc import Callable
from time import perf_counter
from typing import Final, TypeVar

import trio

from triosmtp.errors import HandshakeError

__all__ = ["HANDSHAKE_SCHEDULER", "HandshakeScheduler"]

_T = TypeVar("_T")

_ROUND: Final = 0.01
"""Seconds of steps, after which the others wait for the next round of the event loop."""
_WOKEN: Final = 16
"""Steps that go on at once in a round, if they turn out to be short."""


class HandshakeScheduler:
    """The steps of all servers in this process.  Those that wait go on in the order in which they came, or nearly."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._waiting: OrderedDict[trio.lowlevel.Task, None] = OrderedDict()
        self._woken = 0  # that have not gone on yet
        self._spent = 0.0  # seconds since a round was ended
        self._ending = False  # whether a task waits for the end of this round

    async def run(self, step: Callable[[], _T], is_gone: Callable[[], bool]) -> _T:
        """Run ``step``, in a later round of the event loop if this one has had enough.

        :raises HandshakeError: if it had to wait, and the peer has disconnected meanwhile: ``is_gone`` tells.
        """
        waited = False
        while self._ending:
            await self._wait(again=waited)
            waited = True
        began = self._clock()
        try:
            if waited and is_gone():
                raise HandshakeError("peer_closed", "while it waited for its turn")
            return step()
        finally:
            self._spent += self._clock() - began
            if self._spent >= _ROUND or (self._waiting and not self._woken):
                await self._end_round()

    async def _wait(self, *, again: bool) -> None:
        task = trio.lowlevel.current_task()
        self._waiting[task] = None
        if again:
            self._waiting.move_to_end(task, last=False)

        def abort(_: object) -> "trio.lowlevel.Abort":
            del self._waiting[task]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        self._woken -= 1

    async def wait_turn(self) -> None:
        """Wait until a step may begin in this round of the event loop.  Then call :meth:`end_turn`, in any case.

        For steps that OpenSSL takes within a read or a write.
        """
        waited = False
        while self._ending:
            await self._wait(again=waited)
            waited = True

    def end_turn(self, seconds: float) -> None:
        """Count a step that followed :meth:`wait_turn`; ``seconds`` is its time."""
        self._spent += seconds
        if not self._ending and (self._spent >= _ROUND or (self._waiting and not self._woken)):
            self._ending = True
            trio.lowlevel.current_trio_token().run_sync_soon(self._begin_round)

    async def _end_round(self) -> None:
        """Wait for the next round, and let the next ones go on in it."""
        self._ending = True
        await trio.lowlevel.cancel_shielded_checkpoint()
        self._begin_round()

    def _begin_round(self) -> None:
        self._ending, self._spent = False, 0.0
        while self._waiting and self._woken < _WOKEN:
            trio.lowlevel.reschedule(self._waiting.popitem(last=False)[0])
            self._woken += 1


HANDSHAKE_SCHEDULER: Final = HandshakeScheduler()
