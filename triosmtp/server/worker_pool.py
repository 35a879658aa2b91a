"""Those who serve the sessions of a server in its place, as the server sees them.

The server knows no processes.  It opens sockets, counts what it accepts, and hands it over; it has them take up what it
takes up itself, in the same two steps: first all that may fail, then all at once.
"""

import socket
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Protocol

import trio
from attrs import frozen

from triosmtp.config import Config, Listen
from triosmtp.sockets.listener import Peer

if TYPE_CHECKING:
    from triosmtp.server.service import Service

__all__ = ["WorkerPool", "WorkerPoolState", "WorkerState"]


@frozen(slots=True)
class WorkerState:
    """How one worker fares."""

    number: int
    process: int
    """Its process id."""
    ready: bool
    sessions: int
    seconds: float
    """Since it was started."""


@frozen(slots=True)
class WorkerPoolState:
    """How the workers of a server fare."""

    ready: int
    starting: int
    """Those that are to be there, and are not ready yet, or not again."""
    deaths: int
    """Workers that ended unasked, so far."""
    workers: tuple[WorkerState, ...] = ()
    """Those that run, in the order of their numbers."""


class WorkerPool(Protocol):
    """The workers of a server."""

    def attach(self, service: "Service") -> None:
        """Work for ``service``: what happens is told to it, and its hub decides."""

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Work until :meth:`drain` has come to its end; ``task_status`` says when all are ready.

        :raises ConfigError: where what the configuration names cannot be had there.
        """

    def take(self, listen: Listen, sock: socket.socket, peer: Peer) -> None:
        """Serve an accepted connection, which :meth:`Service.admit` counted in; it is counted out at its end."""

    def room(self) -> Awaitable[int]:
        """Wait until there is room for connections, and give for how many; more than that may be lost."""

    def state(self) -> WorkerPoolState:
        """Give how the workers fare."""

    def prepare(self, config: Config) -> Awaitable[None]:
        """Have everything that ``config`` names, and change nothing.  :meth:`commit` or :meth:`discard` follows.

        :raises ConfigError: where it cannot be had; nothing follows then.
        """

    def commit(self) -> None:
        """Put in force what was prepared, for every connection that :meth:`take` is given from now on."""

    def discard(self) -> None:
        """Forget what was prepared."""

    def reload_certificates(self, reason: str) -> Awaitable[None]:
        """Read all files of TLS again, and return when what can be used is in force."""

    def drain(self, grace: float) -> None:
        """Have sessions end as soon as no transaction is under way, and cancel them after ``grace`` seconds."""

    def gather(self, what: str) -> Awaitable[list[Any]]:
        """Ask each worker for ``what`` and give the answers of those that are there."""
