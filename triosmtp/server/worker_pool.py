"""The interface between the server and the processes that serve its sessions.

The server knows no processes.  It opens sockets, admits connections and passes them to the pool.  A reload has the same
two steps there as here: first everything that can fail, then the change.
"""

import socket
from collections.abc import Awaitable
from typing import Protocol

import trio
from attrs import frozen

from triosmtp.config import Config
from triosmtp.delivery import TargetState
from triosmtp.server.admission import AdmissionTicket
from triosmtp.server.local_sessions import LocalSessions
from triosmtp.server.service import Service
from triosmtp.server.tls_report import TLSReport
from triosmtp.sockets.peer import Peer

__all__ = ["OpenPool", "WorkerPool", "WorkerPoolState", "WorkerState"]


@frozen(slots=True)
class WorkerState:
    """The state of one worker."""

    number: int
    process: int
    """The process id."""
    ready: bool
    sessions: int
    seconds: float
    """Seconds since it was started."""


@frozen(slots=True)
class WorkerPoolState:
    """The state of the workers of a server."""

    ready: int
    starting: int
    """Workers that are not ready yet, or not again."""
    deaths: int
    """Workers that ended unexpectedly, since the server started."""
    workers: tuple[WorkerState, ...] = ()
    """The workers that run, by their numbers."""


class WorkerPool(Protocol):
    """The workers of a server."""

    @property
    def sessions(self) -> LocalSessions:
        """The sessions of all workers, for policy clients and operators."""

    def serve(self, ticket: AdmissionTicket, sock: socket.socket, peer: Peer) -> None:
        """Serve an admitted connection.  The pool owns the socket and the ticket then."""

    def capacity(self) -> int:
        """Return how many more connections can be served now."""

    def state(self) -> WorkerPoolState:
        """Return the state of the workers."""

    def target_states(self) -> tuple[TargetState, ...]:
        """Return the state of the targets, of all workers together: whether they are available is up to date."""

    def refresh_target_states(self) -> Awaitable[None]:
        """Update everything that :meth:`target_states` returns."""

    def prepare(self, config: Config) -> Awaitable[None]:
        """Make everything that ``config`` names in each worker.  :meth:`commit` or :meth:`discard` follows.

        :raises ConfigError: if a worker cannot.  Then nothing follows.
        """

    def commit(self) -> None:
        """Put in force what was prepared, for every later connection."""

    def discard(self) -> None:
        """Discard what was prepared."""

    def reload_certificates(self, reason: str) -> Awaitable[None]:
        """Read all TLS files again in each worker; return when the new contexts are in force."""

    def tls_reports(self) -> Awaitable[list[TLSReport]]:
        """Report the TLS contexts of each worker."""

    def drain(self, grace: float) -> None:
        """End each session as soon as it has no transaction, and after ``grace`` seconds in any case."""


class OpenPool(Protocol):
    """Starts the workers of a server and runs them until they are drained.  ``task_status`` passes the pool.

    :raises ConfigError: if the first workers cannot start with the configuration.
    """

    def __call__(self, service: Service, *, task_status: trio.TaskStatus[WorkerPool]) -> Awaitable[None]:
        """Run the workers."""
