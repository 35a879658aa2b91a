"""A worker process as its supervisor knows it, and how one is started."""

import logging
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import trio
from attrs import define, field

from triosmtp.config import Listen
from triosmtp.errors import ConfigError
from triosmtp.event import SessionInfo
from triosmtp.limits.peer_count import PeerAddress
from triosmtp.server.service import Generation
from triosmtp.workers.channel import Channel, ChannelClosedError
from triosmtp.workers.handoff import connections_pair

__all__ = ["Counted", "SessionRecord", "Worker", "attempt", "start_worker"]

_log = logging.getLogger("triosmtp.daemon")

Counted: TypeAlias = tuple[Listen, Generation, PeerAddress | None]
"""What a connection was counted under: to count it out."""


@define(slots=True, eq=False)
class SessionRecord:
    """What is told of a session whose worker has died."""

    info: SessionInfo
    since: float
    messages: int = 0


@define(slots=True, eq=False)
class Worker:
    """A worker process, as long as it lives."""

    number: int
    process: trio.Process
    channel: Channel
    connections: socket.socket
    theirs: socket.socket
    """The worker's end: to take out of it what a dead one left."""
    generation: int
    """The number of the configuration that is in force there."""
    since: float = field(factory=trio.current_time)
    ready: bool = False
    capacity: int = sys.maxsize
    """How many connections it can have at once."""
    taken: dict[int, Counted] = field(factory=dict)
    """The connections that it was handed and that are not over, by their numbers."""
    sessions: dict[str, SessionRecord] = field(factory=dict)
    tasks: trio.Nursery = field(init=False)
    """What is done with it; all of that ends when it is dead."""

    def __str__(self) -> str:
        return f"worker {self.number} (process {self.process.pid})"


async def start_worker(
    number: int,
    generation: int,
    posts: Mapping[str, Callable[..., None]],
    calls: Mapping[str, Callable[..., Awaitable[Any]]],
) -> Worker:
    """WorkerInit a worker: a new process of this interpreter, with its ends of two sockets and nothing else of ours.

    :raises OSError: where it cannot be started.
    """
    values, their_values = socket.socketpair()
    connections, theirs = connections_pair()
    descriptors = their_values.fileno(), theirs.fileno()
    # What this process finds by its folder, the new one finds so too; else that is no place to take code from.
    options = () if {"", str(Path.cwd())} & set(sys.path) else ("-P",)
    try:
        with their_values:
            process = await trio.lowlevel.open_process(
                [sys.executable, *options, "-m", "triosmtp.workers.worker", *map(str, descriptors), str(number)],
                stdin=subprocess.DEVNULL,
                pass_fds=descriptors,
            )
    except BaseException:
        for sock in (values, connections, theirs):
            sock.close()
        raise
    channel = Channel(values, posts=posts, calls=calls, patient=False)
    return Worker(number, process, channel, connections, theirs, generation)


async def attempt(worker: Worker, work: Callable[..., Awaitable[None]], *arguments: Any) -> None:
    """Do something with a worker.  Where that fails, kill it: another one takes its place; no error goes further."""
    try:
        await work(*arguments)
    except ChannelClosedError:
        worker.process.kill()  # it is dead or dying, and whoever buries it tells that
    except Exception as error:  # noqa: BLE001 - whatever it is, it is that worker's affair
        worker.process.kill()
        known = isinstance(error, ConfigError | trio.TooSlowError)
        reason = str(error) if not isinstance(error, trio.TooSlowError) else "it does not answer"
        _log.error("%s cannot serve: %s", worker, reason or repr(error), exc_info=None if known else error)
