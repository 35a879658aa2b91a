"""A worker process as its supervisor sees it, and how one is started."""

import logging
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio
from attrs import define, field

from triosmtp.delivery import TargetState
from triosmtp.errors import ConfigError, Problem, Severity, is_transient
from triosmtp.event import SessionInfo
from triosmtp.server.admission import AdmissionTicket
from triosmtp.workers.channel import Channel, ChannelClosedError
from triosmtp.workers.handoff import Handoff, connections_pair, discard_connection, receive_connection
from triosmtp.workers.worker_messages import LogRecord, TargetsChanged

__all__ = [
    "SessionRecord",
    "WorkerProcess",
    "kill_on_error",
    "start_worker",
    "startup_error",
    "take_queue",
    "write_log",
]

_log = logging.getLogger("triosmtp.daemon")


@define(slots=True, eq=False)
class SessionRecord:
    """The data of a session that its ``Disconnected`` event needs if its worker dies."""

    info: SessionInfo
    since: float
    messages: int = 0


@define(slots=True, eq=False)
class WorkerProcess:
    """A worker process, from its start to its end."""

    number: int
    process: trio.Process
    channel: Channel
    queue: socket.socket
    """The supervisor's end of the socket pair for connections."""
    worker_end: socket.socket
    """The worker's end, to receive the connections that a dead worker has not received."""
    generation: int
    """The number of the configuration in force there."""
    since: float = field(factory=trio.current_time)
    ready: bool = False
    capacity: int = sys.maxsize
    """How many connections it can have at once."""
    connections: dict[int, AdmissionTicket] = field(factory=dict)
    """The connections that were sent to it and have not ended, by their numbers."""
    sessions: dict[str, SessionRecord] = field(factory=dict)
    targets: tuple[TargetState, ...] = ()
    """The targets, as it reported them last."""

    @property
    def ending(self) -> str:
        """How it ended, for the log."""
        status = self.process.returncode
        return f"signal {-status}" if status is not None and status < 0 else f"status {status}"

    def on_targets_changed(self, message: TargetsChanged) -> None:
        """Keep the state of the targets."""
        self.targets = message.states

    def __str__(self) -> str:
        return f"worker {self.number} (process {self.process.pid})"


async def start_worker(number: int, generation: int) -> WorkerProcess:
    """Start a worker: a new process of this interpreter, with its ends of two socket pairs and no other file.

    :raises OSError: if it cannot be started.
    """
    values, their_values = socket.socketpair()
    queue, worker_end = connections_pair()
    descriptors = their_values.fileno(), worker_end.fileno()
    # If this process imports from its working folder, the worker does so, too.  Otherwise it must not.
    options = () if {"", str(Path.cwd())} & set(sys.path) else ("-P",)
    try:
        with their_values:
            process = await trio.lowlevel.open_process(
                [sys.executable, *options, "-m", "triosmtp.workers.worker_main", *map(str, descriptors), str(number)],
                stdin=subprocess.DEVNULL,
                pass_fds=descriptors,
            )
    except BaseException:
        for sock in (values, queue, worker_end):
            sock.close()
        raise
    return WorkerProcess(number, process, Channel(values, waits=False), queue, worker_end, generation)


async def kill_on_error(worker: WorkerProcess, work: Callable[..., Awaitable[None]], *arguments: Any) -> None:
    """Call ``work``.  After an error, kill the worker: another one replaces it, and the error ends here."""
    try:
        await work(*arguments)
    except ChannelClosedError:
        worker.process.kill()  # it is dead already, or dies; its end is logged when it is reaped
    except Exception as error:  # noqa: BLE001 - an error of one worker must not end the service
        worker.process.kill()
        known = isinstance(error, ConfigError | trio.TooSlowError)
        reason = str(error) if not isinstance(error, trio.TooSlowError) else "it does not answer"
        _log.error("%s cannot serve: %s", worker, reason or repr(error), exc_info=None if known else error)


def take_queue(worker: WorkerProcess) -> list[tuple[Handoff, socket.socket | None]]:
    """Return the connections that a dead worker has not received, without a socket if no descriptor is left."""
    found = []
    while (received := receive_connection(worker.worker_end)) is not None:
        found.append(received)
        if received[1] is None:
            discard_connection(worker.worker_end)
    worker.worker_end.close()
    worker.queue.close()
    return found


def startup_error(worker: WorkerProcess, error: Exception) -> ConfigError:
    """Return why the service cannot start, for an error of one of its first workers."""
    if isinstance(error, ConfigError):
        return error
    if isinstance(error, ChannelClosedError | trio.TooSlowError):
        why = "ended before it was ready" if isinstance(error, ChannelClosedError) else "does not become ready"
        return ConfigError([Problem(Severity.ERROR, f"{worker} {why}", transient=True)])
    transient = isinstance(error, OSError) and is_transient(error)
    return ConfigError([Problem(Severity.ERROR, f"{worker} cannot serve: {error}", transient=transient)])


def write_log(message: LogRecord) -> None:
    """Write a log record of a worker."""
    record = logging.makeLogRecord(message.fields)
    logging.getLogger(record.name).handle(record)
