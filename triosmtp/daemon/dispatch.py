"""Which worker gets a connection, and those that wait for one.

A connection goes to the worker that has the fewest, of those that have room for it.  Where none has, it waits here, for
a moment: nobody may be ready, or the packets of all are full.
"""

import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import trio

from triosmtp.daemon.child import Counted, Worker
from triosmtp.daemon.handover import Handed, hand_over

__all__ = ["Dispatch"]

_AGAIN: Final = 0.05
"""Seconds until connections that no worker has room for are offered again."""


class Dispatch:
    """Hands connections to the workers that ``ready`` gives; ``refuse`` ends those that nobody serves, for a reason."""

    def __init__(
        self, ready: Callable[[], Sequence[Worker]], refuse: Callable[[socket.socket, Counted, str], None]
    ) -> None:
        self._ready = ready
        self._refuse = refuse
        self._waiting: deque[tuple[Handed, socket.socket, Counted]] = deque()
        self._stuck = trio.Event()
        self._running = trio.CancelScope()

    def hand(self, handed: Handed, sock: socket.socket, counted: Counted) -> None:
        """Hand a connection to a worker, now or as soon as one has room."""
        for worker in sorted(self._ready(), key=lambda worker: len(worker.taken)):
            try:
                if not hand_over(worker.connections, handed, sock):
                    continue
            except OSError:
                continue  # it is dead, and that will be noticed
            worker.taken[handed.number] = counted
            sock.close()
            return
        self._waiting.append((handed, sock, counted))
        self._stuck.set()

    async def run(self) -> None:
        """Offer those that wait again and again, until :meth:`stop`."""
        with self._running:
            while True:
                await self._stuck.wait()
                self._stuck = trio.Event()
                while self._waiting:
                    await trio.sleep(_AGAIN)
                    self._offer()

    def stop(self) -> None:
        """Offer those that wait once more, and turn away the others."""
        self._running.cancel()
        self._offer()
        self.turn_away("Service shutting down")

    def turn_away(self, reason: str) -> None:
        """Tell all that wait that nobody serves them."""
        while self._waiting:
            _, sock, counted = self._waiting.popleft()
            self._refuse(sock, counted, reason)

    def _offer(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for each in waiting:
            self.hand(*each)
