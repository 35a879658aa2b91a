"""Which worker gets a connection, and those that wait for one.

A connection goes to the worker that has the fewest, of those that have room for it.  Where none has, it waits here, for
a moment: nobody may be ready, or the packets of all are full.  Who has gone meanwhile is noticed, and who has waited
too long is told to come again.
"""

import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final

import trio
from attrs import field, frozen

from triosmtp.limits.fd_limit import max_connections
from triosmtp.workers.handoff import Handoff, send_connection
from triosmtp.workers.process import Counted, Worker

__all__ = ["Dispatch", "Unserved", "Waiting"]

_AGAIN: Final = 0.05
"""Seconds until connections that no worker has room for are offered again."""
_LOOK: Final = 1.0
"""Seconds between two looks at who has gone, or waits too long."""
_LONGEST: Final = 10.0
"""Seconds that a connection waits: a worker that has died is mostly replaced within them."""


class Unserved(Enum):
    """Why a connection is ended that nobody serves."""

    GONE = "the peer has gone"
    LATE = "no worker has had room for it"
    SHUTDOWN = "the service ends"


@frozen(slots=True, eq=False)
class Waiting:
    """A connection that no worker has yet."""

    handed: Handoff
    sock: socket.socket
    counted: Counted
    since: float = field(factory=trio.current_time)

    def has_gone(self) -> bool:
        """Whether the peer has closed, and has said nothing before that was to be answered."""
        try:
            return not self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True


class Dispatch:
    """Hands connections to the workers that ``ready`` gives; ``refuse`` ends those that nobody serves."""

    def __init__(self, ready: Callable[[], Sequence[Worker]], refuse: Callable[[Waiting, Unserved], None]) -> None:
        self._ready = ready
        self._refuse = refuse
        self._waiting: deque[Waiting] = deque()
        self._most = sys.maxsize
        self._stuck = trio.Event()
        self._running = trio.CancelScope()

    def hand(self, connection: Waiting) -> None:
        """Hand a connection to a worker, now or as soon as one has room."""
        for worker in sorted(self._ready(), key=lambda worker: len(worker.taken)):
            if len(worker.taken) >= worker.capacity:
                continue
            try:
                if not send_connection(worker.connections, connection.handed, connection.sock):
                    continue
            except OSError:
                continue  # it is dead, and that will be noticed
            worker.taken[connection.handed.number] = connection.counted
            connection.sock.close()
            return
        self._waiting.append(connection)
        self._stuck.set()

    async def room(self) -> int:
        """Wait until there is room for connections, and give for how many.

        What is accepted beyond that would only wait here, with descriptors that this process has not: in the kernel's
        queue it waits as well.
        """
        while True:
            room = self._room()
            if room > 0:
                return room
            await trio.sleep(_AGAIN)

    def _room(self) -> int:
        ready = self._ready()
        free = sum(max(worker.capacity - len(worker.taken), 0) for worker in ready) if ready else self._most
        return min(free, self._most) - len(self._waiting)

    async def run(self) -> None:
        """Offer those that wait again and again, until :meth:`stop`."""
        self._most = max_connections()
        with self._running:
            while True:
                await self._stuck.wait()
                self._stuck = trio.Event()
                looked = trio.current_time()
                while self._waiting:
                    await trio.sleep(_AGAIN)
                    self._offer()
                    if trio.current_time() >= looked + _LOOK:
                        looked = trio.current_time()
                        self._look(looked)

    def stop(self) -> None:
        """Offer those that wait once more, and turn away the others."""
        self._running.cancel()
        self._offer()
        self.turn_away()

    def turn_away(self) -> None:
        """Tell all that wait that the service ends."""
        while self._waiting:
            self._refuse(self._waiting.popleft(), Unserved.SHUTDOWN)

    def _offer(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for connection in waiting:
            self.hand(connection)

    def _look(self, now: float) -> None:
        waiting, self._waiting = self._waiting, deque()
        for connection in waiting:
            if connection.has_gone():
                self._refuse(connection, Unserved.GONE)
            elif now - connection.since >= _LONGEST:
                self._refuse(connection, Unserved.LATE)
            else:
                self._waiting.append(connection)
