"""The supervisor: the process that accepts, and has workers serve what it accepted.

**The theory.**  One process knows everything that is one thing in the whole service: the listening sockets, the limits,
the hub, the control socket, the logs, the counters.  It is a :class:`~triosmtp.server.Server` like the one of a service
without workers; only that where this would begin a session, it hands the connection to a worker.  The workers know
nothing of one another.

*It accepts, and passes descriptors on*, each to the worker that has the fewest sessions.  The other way, that workers
accept from shared sockets, costs one process less on a connection's way; but then the kernel decides who gets how
much, a limit of all sessions is everybody's guess, each socket of a reload has to reach every process before the old
one may go, and who dies takes along what the kernel had queued for it alone.  Here each of these is plain.

*Nothing in a queue is lost with a worker.*  The listening sockets never close.  A connection that was handed over
waits, as a packet, in a socket whose other end the supervisor holds as well: what a worker had not taken when it died
is taken out of it, and handed to the others.  What it had taken dies with it, and so do its sessions; they are told as
``Disconnected``, so that nobody who counts them waits for ever.  Mail that was answered 250 is where the delivery put
it: no queue in memory stands between.

*A worker is started by exec,* never forked out of a running loop: what it needs comes by its two sockets.  One that
dies is started again at once, and where it dies young, later and later.

*Whatever goes wrong with a worker ends with that worker.*  What is done with it runs in a nursery of its own, by
:func:`~triosmtp.workers.process.attempt`: an error kills the worker, and goes no further.

*A reload is in two steps*, for all processes at once: first everybody has what the new configuration names, then it is
put in force; whoever cannot have it, the supervisor or any worker, and it changes nothing anywhere.  A connection
carries the number of the configuration that was in force where it was accepted, and waits in the worker until that one
is in force there.
"""

import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from itertools import count
from typing import Any, Final

import trio

from triosmtp.config import Config, Listen
from triosmtp.errors import ConfigError, Problem, Severity, is_transient
from triosmtp.event import (
    CertificatesReloaded,
    Connected,
    ConnectionRefused,
    Disconnected,
    MessageAccepted,
    MessageRefused,
    ServerEvent,
)
from triosmtp.limits.peer_count import PeerAddress
from triosmtp.policy_service.question import Fallback, Question, Verdict
from triosmtp.server.service import Generation, Service
from triosmtp.server.worker_pool import WorkerPoolState, WorkerState
from triosmtp.smtp import Reply
from triosmtp.sockets.listener import Peer
from triosmtp.workers.channel import ChannelClosedError
from triosmtp.workers.dispatch import Dispatch, Unserved, Waiting
from triosmtp.workers.handoff import Handoff, WorkerInit, receive_connection, skip
from triosmtp.workers.pooled_sessions import PooledSessions
from triosmtp.workers.process import SessionRecord, Worker, attempt, start_worker

__all__ = ["Supervisor", "workers_of"]

_log = logging.getLogger("triosmtp.daemon")

_READY: Final = 60.0
"""Seconds that a worker has until it is ready."""
_ANSWER: Final = 10.0
"""Seconds that a worker has for an answer that others wait for."""
_YOUNG: Final = 10.0
"""Seconds of life below which a death makes the next start wait."""
_DELAYS: Final = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
_HUNG: Final = 60.0
_LAST_WORDS: Final = 1.0
"""Seconds that what a dead worker said before is waited for; its sessions' children may hold its socket open."""


def workers_of(config: Config) -> int:
    """Give how many workers ``config`` asks for."""
    workers = config.base.workers
    return len(os.sched_getaffinity(0)) if workers is None else workers


class Supervisor:
    """Has so many workers.  It is a :class:`~triosmtp.server.worker_pool.WorkerPool`."""

    def __init__(self, workers: int, hung: float = _HUNG) -> None:
        self.hung = hung
        """Seconds without an answer after which a worker is taken for stuck."""
        self._count = workers
        self._service: Service | None = None
        self._nursery: trio.Nursery | None = None
        self._workers: dict[int, Worker] = {}
        self._prepared: list[Worker] = []
        self._dispatch = Dispatch(self._those_ready, self._refuse)
        self._numbers = count(1)
        self._generation = 1
        self._renewing = False
        self._draining = trio.Event()
        self._deaths = 0

    def _those_ready(self) -> list[Worker]:
        return [worker for worker in self._workers.values() if worker.ready]

    @property
    def _served(self) -> Service:
        assert self._service is not None, "attach() comes first"
        return self._service

    @property
    def _tasks(self) -> trio.Nursery:
        assert self._nursery is not None, "run() runs"
        return self._nursery

    # As a pool

    def attach(self, service: Service) -> None:
        """Work for ``service``."""
        self._service = service
        service.attach(PooledSessions(service, self))
        service.observe(self._heed)
        service.hub.on_interest_changed = self._tell_interest

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until drained.

        :raises ConfigError: where the first workers do not come to be ready.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            async with trio.open_nursery() as starting:
                for number in range(1, self._count + 1):
                    starting.start_soon(nursery.start, self._keep, number)
            nursery.start_soon(self._dispatch.run)
            task_status.started()

    def take(self, listen: Listen, sock: socket.socket, peer: Peer) -> None:
        """Have a connection served."""
        handed = Handoff(next(self._numbers), self._generation, listen.key, peer)
        self._dispatch.hand(Waiting(handed, sock, (listen, self._served.generation, peer.address)))
        if self._draining.is_set() and not self._those_ready():
            self._dispatch.turn_away()

    def room(self) -> Awaitable[int]:
        """Wait until there is room for connections, and give for how many."""
        return self._dispatch.room()

    def state(self) -> WorkerPoolState:
        """Give how the workers fare."""
        ready = len(self._those_ready())
        now = trio.current_time()
        workers = tuple(
            WorkerState(number, worker.process.pid, worker.ready, len(worker.sessions), now - worker.since)
            for number, worker in sorted(self._workers.items())
        )
        return WorkerPoolState(ready, self._count - ready, self._deaths, workers)

    async def prepare(self, config: Config) -> None:
        """Have every worker prepare for ``config``.

        :raises ConfigError: where one cannot; then none is prepared.
        """
        problems: list[Problem] = []
        prepared: list[Worker] = []

        async def prepare(worker: Worker) -> None:
            try:
                with trio.fail_after(_READY):
                    await worker.channel.call("prepare", config)
            except ConfigError as error:
                problems.extend(error.problems)
            except trio.TooSlowError:
                problems.append(Problem(Severity.ERROR, f"{worker} does not answer"))
            except ChannelClosedError:
                pass  # another one takes its place, with what is in force by then
            except Exception as error:  # noqa: BLE001 - whatever it is, that worker cannot have the configuration
                problems.append(Problem(Severity.ERROR, f"{worker} cannot prepare: {error!r}"))
            else:
                prepared.append(worker)

        self._prepared = prepared
        try:
            async with trio.open_nursery() as nursery:
                for worker in self._those_ready():
                    nursery.start_soon(prepare, worker)
            if problems:
                raise ConfigError(list(dict.fromkeys(problems)))
        except BaseException:
            self.discard()
            raise

    def commit(self) -> None:
        """Put in force what was prepared."""
        self._generation += 1
        for worker in self._prepared:
            worker.channel.post("commit", self._generation)
            worker.generation = self._generation
        for worker in self._those_ready():
            if worker.generation != self._generation:  # it came to be ready in between
                worker.ready = False
                worker.tasks.start_soon(attempt, worker, self._catch_up, worker)
        self._prepared = []

    def discard(self) -> None:
        """Forget what was prepared."""
        for worker in self._prepared:
            worker.channel.post("discard")
        self._prepared = []

    async def reload_certificates(self, reason: str) -> None:
        """Have every worker read the files of TLS again."""
        in_force = {str(each.error) for each in self._served.contexts.problems}
        for worker, problems in await self._ask_all(list(self._workers.values()), "reload certificates", reason):
            for problem in problems:
                if problem not in in_force:  # else it was told already
                    _log.error("%s: %s", worker, problem)

    def drain(self, grace: float) -> None:
        """Have everything come to its end."""
        self._draining.set()
        self._dispatch.stop()
        for worker in self._workers.values():
            if worker.ready:
                worker.channel.post("drain", grace)
            else:
                worker.process.kill()

    async def gather(self, what: str) -> list[Any]:
        """Ask each worker for ``what`` and give the answers of those that are there."""
        return [answer for _, answer in await self._ask_all(self._those_ready(), "ask", what)]

    async def ask_about(self, session: str, *call: Any) -> Any:
        """Ask the worker of a session; give None where there is none."""
        for worker in self._workers.values():
            if session in worker.sessions:
                for _, answer in await self._ask_all([worker], *call):
                    return answer
        return None

    # Connections

    def _refuse(self, connection: Waiting, why: Unserved) -> None:
        """End a connection that nobody serves; under Use_SSL plaintext would only look like a broken handshake."""
        (listen, generation, _), peer = connection.counted, connection.handed.peer
        with connection.sock, suppress(OSError):
            if why is not Unserved.GONE and not generation.config.resolve(listen, peer.address).use_ssl:
                text = "Service shutting down" if why is Unserved.SHUTDOWN else "No room at the moment, try again later"
                connection.sock.send(Reply(421, text, "4.3.2").render())
        if why is Unserved.LATE:
            self._served.emit(ConnectionRefused(peer=peer.text, listener=listen.name, reason="Workers"))
        self._count_out(*connection.counted)

    def _count_out(self, listen: Listen, generation: Generation, peer: PeerAddress | None) -> None:
        service = self._served
        service.peers.disconnect(peer)
        service.count_out(listen, generation)
        if generation is not service.generation and not generation.sessions:
            self._tasks.start_soon(service.close_unused, generation)

    # Workers

    async def _keep(self, number: int, *, task_status: trio.TaskStatus[None]) -> None:
        """Keep a worker alive, until drained.  ``task_status`` tells when the first one is ready."""
        deaths = 0
        begun = False
        while not self._draining.is_set():
            try:
                worker = await self._spawn(number)
            except OSError as error:
                problem = f"no worker can be started: {sys.executable}: {error.strerror}"
                if not begun:
                    raise ConfigError([Problem(Severity.ERROR, problem, transient=is_transient(error))]) from None
                _log.error("%s", problem)
                with trio.move_on_after(_DELAYS[-1]):
                    await self._draining.wait()
                continue
            try:
                async with trio.open_nursery() as worker.tasks:
                    if begun:
                        worker.tasks.start_soon(attempt, worker, self._replace, worker)
                    else:
                        worker.tasks.start_soon(self._begin_first, worker, task_status)
                    worker.tasks.start_soon(attempt, worker, self._close_when_dead, worker)
                    worker.tasks.start_soon(attempt, worker, self._look_after, worker)
                    await attempt(worker, worker.channel.run)
                    worker.ready = False
                    worker.tasks.cancel_scope.cancel()
            finally:
                with trio.CancelScope(shield=True):
                    await self._bury(worker)
            begun = True
            deaths = deaths + 1 if trio.current_time() - worker.since < _YOUNG else 0
            with trio.move_on_after(_DELAYS[min(deaths, len(_DELAYS) - 1)]):
                await self._draining.wait()

    async def _spawn(self, number: int) -> Worker:
        service = self._served
        posts: dict[str, Callable[..., None]] = {
            "event": partial(self._heard, number),
            "over": partial(self._over, number),
            "handshake": self._count_handshake,
            "handshake over": service.handshakes.release,
            "uncount": service.uncount_peer,
            "ended": service.hub.report_outcome,
            "log": _write,
        }
        calls: dict[str, Callable[..., Awaitable[Any]]] = {
            "decide": self._decide,
            "handshake": self._admit_handshake,
            "count": service.count_peer,
        }
        worker = await start_worker(number, self._generation, posts, calls)
        self._workers[number] = worker
        return worker

    async def _begin_first(self, worker: Worker, task_status: trio.TaskStatus[None]) -> None:
        try:
            await self._begin(worker)
        except Exception as error:  # noqa: BLE001 - whatever it is, the service does not come up
            worker.process.kill()
            raise _not_ready(worker, error) from None
        task_status.started()

    async def _replace(self, worker: Worker) -> None:
        await self._begin(worker)
        _log.warning("%s has taken the place of the dead one", worker)

    async def _begin(self, worker: Worker) -> None:
        """Have a worker come to be ready."""
        service = self._served
        start = WorkerInit(
            config=service.config,
            generation=worker.generation,
            interest=service.hub.interest,
            files={each.material.settings: dict(each.material.files) for each in service.contexts.contexts()},
            mock_key=service.profiles.mock_key,
        )
        with trio.fail_after(_READY):
            worker.capacity = await worker.channel.call("start", start)
        await self._catch_up(worker)

    async def _catch_up(self, worker: Worker) -> None:
        """Bring a worker to what is in force, and let it have connections."""
        while worker.generation != self._generation:
            number = self._generation
            with trio.fail_after(_READY):
                await worker.channel.call("prepare", self._served.config)
            worker.channel.post("commit", number)
            worker.generation = number
        worker.ready = True
        if self._draining.is_set():
            worker.process.kill()

    async def _look_after(self, worker: Worker) -> None:
        """Kill a worker whose loop turns no more: something blocks it, and its sessions with it."""
        while True:
            await trio.sleep(self.hung / 3)
            with trio.move_on_after(self.hung), suppress(ChannelClosedError):
                await worker.channel.call("confirm")
                continue
            if not worker.channel.closed.is_set():
                _log.error("%s has not answered for %g s: it is killed", worker, self.hung)
                worker.process.kill()
            return

    async def _close_when_dead(self, worker: Worker) -> None:
        """End the conversation with a dead worker, whose children may hold its socket open."""
        await worker.process.wait()
        await trio.sleep(_LAST_WORDS)
        worker.channel.close()

    async def _bury(self, worker: Worker) -> None:
        """Settle what a worker leaves: hand on what it had not taken, and tell the end of what it had."""
        worker.ready = False
        with trio.move_on_after(_LAST_WORDS):
            await worker.process.wait()
        if worker.process.returncode is None:
            worker.process.kill()
            await worker.process.wait()
        del self._workers[worker.number]
        service, now = self._served, trio.current_time()
        left = []
        while (received := receive_connection(worker.theirs)) is not None:
            left.append(received)
            if received[1] is None:
                skip(worker.theirs)
        worker.theirs.close()
        worker.connections.close()
        for handed, sock in left:
            counted = worker.taken.pop(handed.number)
            if sock is None:
                self._count_out(*counted)
            else:
                self._dispatch.hand(Waiting(handed, sock, counted))
        if not self._draining.is_set() or worker.taken:
            self._deaths += 1
            status = worker.process.returncode
            how = f"signal {-status}" if status is not None and status < 0 else f"status {status}"
            _log.error("%s ended with %s; sessions lost: %d", worker, how, len(worker.taken))
        for session, known in worker.sessions.items():
            service.handshakes.release(session)
            seconds, messages = now - known.since, known.messages
            service.emit(Disconnected(session=known.info, reason="failed", seconds=seconds, messages=messages))
        for counted in worker.taken.values():
            self._count_out(*counted)
        if self._draining.is_set():
            self._dispatch.turn_away()

    # From a worker

    def _heard(self, number: int, event: ServerEvent) -> None:
        sessions = self._workers[number].sessions
        if isinstance(event, Connected):
            sessions[event.session.id] = SessionRecord(event.session, trio.current_time())
        elif isinstance(event, MessageAccepted | MessageRefused):
            known = sessions.get(event.session.id)
            if known is not None:
                known.messages += 1
        elif isinstance(event, Disconnected):
            sessions.pop(event.session.id, None)
        self._served.emit(event)

    def _over(self, number: int, connection: int) -> None:
        self._count_out(*self._workers[number].taken.pop(connection))

    async def _decide(self, group: str, question: Question, timeout: float, fallback: Fallback) -> Verdict:  # noqa: ASYNC109 - as the hub has it
        return await self._served.hub.decide(group, question, timeout=timeout, fallback=fallback)

    async def _admit_handshake(
        self, session: str, peer: IPv4Address | IPv6Address | None, per_peer: tuple[int, float] | None
    ) -> str:
        return self._served.handshakes.admit(session, peer, per_peer, trio.current_time())

    def _count_handshake(self, session: str) -> None:
        self._served.handshakes.admit(session, None, None, trio.current_time())

    # To all workers

    def _heed(self, event: ServerEvent) -> None:
        """Have the workers take up certificates that were found changed."""
        if isinstance(event, CertificatesReloaded) and event.reason == "watch" and not self._renewing:
            self._renewing = True
            self._tasks.start_soon(self._renew)

    async def _renew(self) -> None:
        self._renewing = False
        await self.reload_certificates("watch")

    async def _tell_interest(self) -> None:
        interest = self._served.hub.interest
        workers = list(self._workers.values())
        for worker in workers:
            worker.channel.post("interest", interest)
        await self._ask_all([worker for worker in workers if worker.ready], "confirm")

    async def _ask_all(self, workers: list[Worker], *call: Any) -> list[tuple[Worker, Any]]:
        answers: dict[int, tuple[Worker, Any]] = {}

        async def ask(worker: Worker) -> None:
            try:
                with trio.fail_after(_ANSWER):
                    answers[worker.number] = worker, await worker.channel.call(*call)
            except Exception as error:  # noqa: BLE001 - one worker's failure is no other's
                _log.warning("%s gave no answer to %r: %r", worker, call[0], error)

        async with trio.open_nursery() as nursery:
            for worker in workers:
                nursery.start_soon(ask, worker)
        return [answers[number] for number in sorted(answers)]


def _write(fields: dict[str, Any]) -> None:
    """Write what a worker logs."""
    record = logging.makeLogRecord(fields)
    logging.getLogger(record.name).handle(record)


def _not_ready(worker: Worker, error: Exception) -> ConfigError:
    if isinstance(error, ConfigError):
        return error
    if isinstance(error, ChannelClosedError | trio.TooSlowError):
        why = "ended before it was ready" if isinstance(error, ChannelClosedError) else "does not come to be ready"
        return ConfigError([Problem(Severity.ERROR, f"{worker} {why}", transient=True)])
    transient = isinstance(error, OSError) and is_transient(error)
    return ConfigError([Problem(Severity.ERROR, f"{worker} cannot serve: {error}", transient=transient)])
