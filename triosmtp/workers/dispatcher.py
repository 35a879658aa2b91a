"""Choose the worker for each connection, and keep the connections that no worker has capacity for.

A connection goes to the worker that has the fewest connections, if that has capacity.  Otherwise it waits for a moment:
no worker may be ready, or the packet queues of all are full.  A client that disconnects meanwhile is noticed.  A client
that waits too long is asked to try again later.
"""

import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final

import trio
from attrs import field, frozen

from triosmtp.limits.fd_limit import max_connections
from triosmtp.server.admission import AdmissionTicket
from triosmtp.workers.handoff import Handoff, send_connection
from triosmtp.workers.worker_process import WorkerProcess

__all__ = ["Dispatcher", "NotServed", "PendingConnection"]

_RETRY_SECONDS: Final = 0.05
"""Seconds until connections that wait are offered to the workers again."""
_CHECK_SECONDS: Final = 1.0
"""Seconds between two checks for clients that have disconnected or waited too long."""
_MAX_WAIT_SECONDS: Final = 10.0
"""Seconds that a connection waits.  A dead worker is usually replaced in this time."""


class NotServed(Enum):
    """Why no worker serves a connection."""

    DISCONNECTED = "the client has disconnected"
    NO_CAPACITY = "no worker had capacity"
    SHUTDOWN = "the service shuts down"


@frozen(slots=True, eq=False)
class PendingConnection:
    """A connection that no worker has yet."""

    handoff: Handoff
    sock: socket.socket
    ticket: AdmissionTicket
    since: float = field(factory=trio.current_time)

    def is_disconnected(self) -> bool:
        """Return whether the client has disconnected, and has sent nothing before that."""
        try:
            return not self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True


class Dispatcher:
    """Passes connections to those of ``workers`` that are ready; ``refuse`` ends the connections of no worker."""

    def __init__(
        self, workers: Callable[[], Iterable[WorkerProcess]], refuse: Callable[[PendingConnection, NotServed], None]
    ) -> None:
        self._workers = workers
        self._refuse = refuse
        self._pending: deque[PendingConnection] = deque()
        self._max_pending = sys.maxsize
        self._is_pending = trio.Event()
        self._running = trio.CancelScope()

    def dispatch(self, connection: PendingConnection) -> None:
        """Pass a connection to a worker, now or when one has capacity."""
        if not self._send(connection):
            self._pending.append(connection)
            self._is_pending.set()

    def _send(self, connection: PendingConnection) -> bool:
        for worker in sorted(self._workers(), key=_connections):
            if not worker.ready or len(worker.connections) >= worker.capacity:
                continue
            try:
                if not send_connection(worker.queue, connection.handoff, connection.sock):
                    continue
            except OSError:
                continue  # it has died: its supervision will notice
            worker.connections[connection.handoff.number] = connection.ticket
            connection.sock.close()
            return True
        return False

    def capacity(self) -> int:
        """Return how many more connections the workers can have.

        Further connections would only wait here and use descriptors.  They wait in the kernel's backlog instead.
        """
        free, is_ready = 0, False
        for worker in self._workers():
            if worker.ready:
                is_ready = True
                free += max(worker.capacity - len(worker.connections), 0)
        return min(free if is_ready else self._max_pending, self._max_pending) - len(self._pending)

    async def run(self) -> None:
        """Offer pending connections to the workers again and again, until :meth:`stop`."""
        self._max_pending = max_connections()
        with self._running:
            while True:
                await self._is_pending.wait()
                self._is_pending = trio.Event()
                checked = trio.current_time()
                while self._pending:
                    await trio.sleep(_RETRY_SECONDS)
                    self._offer()
                    if trio.current_time() >= checked + _CHECK_SECONDS:
                        checked = trio.current_time()
                        self._check(checked)

    def stop(self) -> None:
        """Offer pending connections once more, and refuse those that are left."""
        self._running.cancel()
        self._offer()
        self.refuse_pending()

    def refuse_pending(self) -> None:
        """Refuse all pending connections, because the service shuts down."""
        while self._pending:
            self._refuse(self._pending.popleft(), NotServed.SHUTDOWN)

    def _offer(self) -> None:
        pending, self._pending = self._pending, deque()
        for connection in pending:
            self.dispatch(connection)

    def _check(self, now: float) -> None:
        pending, self._pending = self._pending, deque()
        for connection in pending:
            if connection.is_disconnected():
                self._refuse(connection, NotServed.DISCONNECTED)
            elif now - connection.since >= _MAX_WAIT_SECONDS:
                self._refuse(connection, NotServed.NO_CAPACITY)
            else:
                self._pending.append(connection)


def _connections(worker: WorkerProcess) -> int:
    return len(worker.connections)
