"""The supervisor: the process that accepts connections and passes them to workers.

**One process owns everything that exists once** in the service: the listening sockets, the limits, the policy hub, the
control socket, the logs and the counters.  It is a :class:`~triosmtp.server.Server` like that of a service without
workers, but passes each connection to a worker instead of starting a session.  Workers do not know each other.

**It accepts and passes descriptors**, each to the worker with the fewest sessions.  Workers that accept from shared
sockets would save one process on the way of a connection.  But then the kernel distributes the load, and no process
knows the number of all sessions.  A reload must bring each new socket to every process before the old one is closed.
The connections in the backlog of a dead worker are lost.

**No connection in a queue is lost with a worker.**  The listening sockets stay open.  A connection that was sent waits
as a packet in a socket whose other end the supervisor has, too.  It receives the packets that a dead worker has not
received, and sends them to other workers.  The sessions of a dead worker end: a ``Disconnected`` event is emitted for
each.  Mail that was answered 250 is where the delivery stored it: no queue in memory is between.

**A worker is started by exec**, never forked from a running event loop.  All its data comes through two sockets.  A
worker that dies is replaced at once; one that dies early, with a growing delay.

**An error with a worker ends with that worker.**  All work for a worker runs in its own nursery, through
:func:`~triosmtp.workers.worker_process.kill_on_error`.

**A reload has two steps** in all processes: first each makes what the new configuration names, then it is put in force.
If one process cannot, nothing changes in any.  A connection carries the number of the configuration that was in force
when it was accepted.  It waits in the worker until that configuration is in force there.
"""

import logging
import os
import socket
import sys
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, Final, TypeVar

import trio

from triosmtp.config import Config
from triosmtp.delivery import TargetState, ended_state, merge_states
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
from triosmtp.limits.limit_reached import LimitReached
from triosmtp.observer import EVENTS, Subscription
from triosmtp.server.admission import AdmissionTicket
from triosmtp.server.service import Service
from triosmtp.server.tls_report import TLSReport
from triosmtp.server.worker_pool import WorkerPoolState, WorkerState
from triosmtp.smtp import Reply
from triosmtp.sockets.peer import Peer
from triosmtp.workers.channel import ChannelClosedError, NotificationHandlers
from triosmtp.workers.dispatcher import Dispatcher, NotServed, PendingConnection
from triosmtp.workers.handoff import Handoff
from triosmtp.workers.pooled_sessions import PooledSessions
from triosmtp.workers.request_handlers import request_handlers
from triosmtp.workers.slot_lending import LentSlots
from triosmtp.workers.worker_messages import (
    Commit,
    ConnectionClosed,
    DiscardPrepared,
    Drain,
    FilterUsed,
    HandshakeEnded,
    HandshakeStarted,
    InterestChanged,
    LogRecord,
    PhaseEnded,
    Ping,
    Prepare,
    ReloadCertificates,
    ReportTargets,
    ReportTLS,
    TargetsChanged,
    UncountPeer,
    WorkerInit,
    WorkerRequest,
)
from triosmtp.workers.worker_process import (
    SessionRecord,
    WorkerProcess,
    kill_on_error,
    start_worker,
    startup_error,
    take_queue,
    write_log,
)

__all__ = ["Supervisor", "count_workers", "run_workers"]

_log = logging.getLogger("triosmtp.daemon")

T = TypeVar("T")

_READY_SECONDS: Final = 60.0
"""Seconds that a worker has until it is ready."""
_ANSWER_SECONDS: Final = 10.0
"""Seconds that a worker has for an answer that policy clients or operators wait for."""
_EARLY_DEATH_SECONDS: Final = 10.0
"""A worker that dies before this age is replaced with a delay."""
_RESTART_DELAYS: Final = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
_HUNG_SECONDS: Final = 60.0
"""Seconds without an answer after which a worker is killed."""
_LAST_MESSAGES_SECONDS: Final = 1.0
"""Seconds to receive the last messages of a dead worker.  Child processes of its sessions may hold its socket open."""


def count_workers(config: Config) -> int:
    """Return the number of workers that ``config`` asks for."""
    workers = config.base.workers
    return len(os.sched_getaffinity(0)) if workers is None else workers


async def run_workers(
    workers: int,
    service: Service,
    *,
    hung: float = _HUNG_SECONDS,
    task_status: trio.TaskStatus["Supervisor"] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run ``workers`` workers for ``service`` until they are drained.  It is an ``OpenPool`` of the server.

    ``hung`` is the number of seconds without an answer after which a worker is killed.

    :raises ConfigError: if the first workers cannot start.
    """
    async with trio.open_nursery() as nursery:
        supervisor = Supervisor(service, nursery, workers, hung)
        async with trio.open_nursery() as starting:
            for number in range(1, workers + 1):
                starting.start_soon(nursery.start, supervisor.supervise, number)
        nursery.start_soon(supervisor.dispatcher.run)
        task_status.started(supervisor)


class Supervisor:
    """The workers of ``service``, in ``nursery``.  It is a :class:`~triosmtp.server.worker_pool.WorkerPool`."""

    def __init__(self, service: Service, nursery: trio.Nursery, workers: int, hung: float = _HUNG_SECONDS) -> None:
        self._service = service
        self._nursery = nursery
        self._count = workers
        self._hung = hung
        self.sessions = PooledSessions(service, self)
        """The sessions of all workers."""
        self._workers: dict[int, WorkerProcess] = {}
        self._prepared: list[WorkerProcess] = []
        self._slots = LentSlots(workers)
        self.dispatcher = Dispatcher(self._workers.values, self._refuse)
        self._last_number = count(1)
        self._generation = 1
        self._renewing = False
        self._draining = trio.Event()
        self._deaths = 0
        self._ended_targets: tuple[TargetState, ...] = ()  # what workers that ended have counted
        service.observers.add(Subscription(self._on_certificates_reloaded, (CertificatesReloaded,)))
        service.hub.on_interest_changed = self._send_interest

    def _ready_workers(self) -> list[WorkerProcess]:
        return [worker for worker in self._workers.values() if worker.ready]

    # The interface of a worker pool

    def serve(self, ticket: AdmissionTicket, sock: socket.socket, peer: Peer) -> None:
        """Pass an admitted connection to a worker."""
        handoff = Handoff(next(self._last_number), self._generation, ticket.listen.key, peer)
        self.dispatcher.dispatch(PendingConnection(handoff, sock, ticket))
        if self._draining.is_set() and not self._ready_workers():
            self.dispatcher.refuse_pending()

    def capacity(self) -> int:
        """Return how many more connections can be served now."""
        return self.dispatcher.capacity()

    def state(self) -> WorkerPoolState:
        """Return the state of the workers."""
        ready, now = len(self._ready_workers()), trio.current_time()
        workers = tuple(
            WorkerState(number, worker.process.pid, worker.ready, len(worker.sessions), now - worker.since)
            for number, worker in sorted(self._workers.items())
        )
        return WorkerPoolState(ready, self._count - ready, self._deaths, workers)

    def target_states(self) -> tuple[TargetState, ...]:
        """Return the state of the targets, of all workers together."""
        return merge_states(self._ended_targets, *(worker.targets for worker in self._workers.values()))

    async def refresh_target_states(self) -> None:
        """Ask the workers for the state of the targets."""
        for worker, states in await self._ask(self._ready_workers(), ReportTargets()):
            worker.targets = states

    async def prepare(self, config: Config) -> None:
        """Make everything that ``config`` names in each worker.

        :raises ConfigError: if a worker cannot.  Then no worker is prepared.
        """
        problems: list[Problem] = []
        prepared: list[WorkerProcess] = []

        async def prepare(worker: WorkerProcess) -> None:
            try:
                with trio.fail_after(_READY_SECONDS):
                    await worker.channel.request(Prepare(config))
            except ConfigError as error:
                problems.extend(error.problems)
            except trio.TooSlowError:
                problems.append(Problem(Severity.ERROR, f"{worker} does not answer"))
            except ChannelClosedError:
                pass  # another worker replaces it, with the configuration in force then
            except Exception as error:  # noqa: BLE001 - any error means that this worker cannot use the configuration
                problems.append(Problem(Severity.ERROR, f"{worker} cannot prepare: {error!r}"))
            else:
                prepared.append(worker)

        self._prepared = prepared
        try:
            async with trio.open_nursery() as nursery:
                for worker in self._ready_workers():
                    nursery.start_soon(prepare, worker)
            if problems:
                raise ConfigError(list(dict.fromkeys(problems)))
        except BaseException:
            self.discard()
            raise

    def commit(self) -> None:
        """Put in force what was prepared."""
        self._generation += 1
        self._ended_targets = ()  # each worker counts from 0 again
        for worker in self._prepared:
            worker.channel.send(Commit(self._generation))
            worker.generation = self._generation
        for worker in self._ready_workers():
            if worker.generation != self._generation:  # it became ready after prepare()
                worker.ready = False
                self._nursery.start_soon(kill_on_error, worker, self._update, worker)
        self._prepared = []

    def discard(self) -> None:
        """Discard what was prepared."""
        for worker in self._prepared:
            worker.channel.send(DiscardPrepared())
        self._prepared = []

    async def reload_certificates(self, reason: str) -> None:
        """Read the TLS files again in each worker."""
        in_force = {str(each.error) for each in self._service.contexts.problems}
        for worker, problems in await self._ask(list(self._workers.values()), ReloadCertificates(reason)):
            for problem in problems:
                if problem not in in_force:  # otherwise it is logged already
                    _log.error("%s: %s", worker, problem)

    def drain(self, grace: float) -> None:
        """End each session as soon as it has no transaction, and after ``grace`` seconds in any case."""
        self._draining.set()
        self.dispatcher.stop()
        for worker in self._workers.values():
            if worker.ready:
                worker.channel.send(Drain(grace))
            else:
                worker.process.kill()

    async def tls_reports(self) -> list[TLSReport]:
        """Report the TLS contexts of each worker."""
        return await self.ask_all(ReportTLS())

    # Questions to workers

    async def ask_all(self, request: WorkerRequest[T]) -> list[T]:
        """Return the answers of all workers that answer."""
        return [answer for _, answer in await self._ask(self._ready_workers(), request)]

    async def ask_about(self, session: str, request: WorkerRequest[T]) -> T | None:
        """Return the answer of the worker that has the session; None if none has."""
        for worker in self._workers.values():
            if session in worker.sessions:
                for _, answer in await self._ask([worker], request):
                    return answer
        return None

    async def _ask(self, workers: list[WorkerProcess], request: WorkerRequest[T]) -> list[tuple[WorkerProcess, T]]:
        answers: dict[int, tuple[WorkerProcess, T]] = {}

        async def ask(worker: WorkerProcess) -> None:
            try:
                with trio.fail_after(_ANSWER_SECONDS):
                    answers[worker.number] = worker, await worker.channel.request(request)
            except Exception as error:  # noqa: BLE001 - an error of one worker does not concern the others
                _log.warning("%s did not answer %s: %r", worker, type(request).__name__, error)

        async with trio.open_nursery() as nursery:
            for worker in workers:
                nursery.start_soon(ask, worker)
        return [answers[number] for number in sorted(answers)]

    # Connections

    def _refuse(self, connection: PendingConnection, why: NotServed) -> None:
        """End a connection that no worker serves.  With Use_SSL, there is no reply: it would break the handshake."""
        ticket, peer = connection.ticket, connection.handoff.peer
        with connection.sock, suppress(OSError):
            use_ssl = ticket.generation.config.resolve(ticket.listen, peer.address).use_ssl
            if why is not NotServed.DISCONNECTED and not use_ssl:
                is_end = why is NotServed.SHUTDOWN
                text = "Service shutting down" if is_end else "No worker has capacity, try again later"
                connection.sock.send(Reply(421, text, "4.3.2").render())
        if why is NotServed.NO_CAPACITY:
            reason = LimitReached.WORKERS.value
            self._service.emit(ConnectionRefused(peer=peer.text, listener=ticket.listen.name, reason=reason))
        ticket.close()

    # The life of a worker

    async def supervise(self, number: int, *, task_status: trio.TaskStatus[None]) -> None:
        """Start a worker, and replace it when it dies, until drained.  ``task_status``: the first one is ready.

        :raises ConfigError: if the first one cannot start.
        """
        early_deaths, is_first = 0, True
        while not self._draining.is_set():
            try:
                worker = await start_worker(number, self._generation)
            except OSError as error:
                problem = f"no worker can be started: {sys.executable}: {error.strerror}"
                if is_first:
                    raise ConfigError([Problem(Severity.ERROR, problem, transient=is_transient(error))]) from None
                _log.error("%s", problem)
                with trio.move_on_after(_RESTART_DELAYS[-1]):
                    await self._draining.wait()
                continue
            self._workers[number] = worker
            try:
                await self._run_worker(worker, task_status if is_first else None)
            finally:
                with trio.CancelScope(shield=True):
                    await self._reap(worker)
            is_first = False
            died_early = trio.current_time() - worker.since < _EARLY_DEATH_SECONDS
            early_deaths = early_deaths + 1 if died_early else 0
            with trio.move_on_after(_RESTART_DELAYS[min(early_deaths, len(_RESTART_DELAYS) - 1)]):
                await self._draining.wait()

    async def _run_worker(self, worker: WorkerProcess, first: trio.TaskStatus[None] | None) -> None:
        """Exchange messages with a worker until it has ended."""
        async with trio.open_nursery() as tasks:
            if first is None:
                tasks.start_soon(kill_on_error, worker, self._replace, worker)
            else:
                tasks.start_soon(self._initialize_first, worker, first)
            tasks.start_soon(kill_on_error, worker, self._close_when_dead, worker)
            tasks.start_soon(kill_on_error, worker, self.watchdog, worker)
            handlers = request_handlers(self._service)
            await kill_on_error(worker, worker.channel.run, self._notifications(worker), handlers)
            worker.ready = False
            tasks.cancel_scope.cancel()

    async def _initialize_first(self, worker: WorkerProcess, task_status: trio.TaskStatus[None]) -> None:
        try:
            await self._initialize(worker)
        except Exception as error:  # noqa: BLE001 - any error means that the service cannot start
            worker.process.kill()
            raise startup_error(worker, error) from None
        task_status.started()

    async def _replace(self, worker: WorkerProcess) -> None:
        await self._initialize(worker)
        _log.warning("%s has replaced a worker that ended", worker)

    async def _initialize(self, worker: WorkerProcess) -> None:
        """Send a worker its configuration, and wait until it is ready."""
        service = self._service
        init = WorkerInit(
            config=service.config,
            generation=worker.generation,
            interest=service.hub.interest,
            files={each.material.settings: dict(each.material.files) for each in service.contexts.contexts()},
            mock_key=service.profiles.mock_key,
        )
        with trio.fail_after(_READY_SECONDS):
            worker.capacity = await worker.channel.request(init)
        await self._update(worker)

    async def _update(self, worker: WorkerProcess) -> None:
        """Put the configuration in force in a worker that has an older one, and let it have connections."""
        while worker.generation != self._generation:
            number = self._generation
            with trio.fail_after(_READY_SECONDS):
                await worker.channel.request(Prepare(self._service.config))
            worker.channel.send(Commit(number))
            worker.generation = number
        worker.ready = True
        if self._draining.is_set():
            worker.process.kill()

    async def watchdog(self, worker: WorkerProcess) -> None:
        """Kill a worker whose event loop is blocked, and with it its sessions."""
        while True:
            await trio.sleep(self._hung / 3)
            with trio.move_on_after(self._hung), suppress(ChannelClosedError):
                await worker.channel.request(Ping())
                continue
            if not worker.channel.closed.is_set():
                _log.error("%s has not answered for %g s: it is killed", worker, self._hung)
                worker.process.kill()
            return

    async def _close_when_dead(self, worker: WorkerProcess) -> None:
        """Close the channel of a dead worker.  Its child processes may hold its socket open."""
        await worker.process.wait()
        await trio.sleep(_LAST_MESSAGES_SECONDS)
        worker.channel.close()

    async def _reap(self, worker: WorkerProcess) -> None:
        """Wait for the end of a worker, dispatch the connections in its queue again, and end its sessions."""
        worker.ready = False
        with trio.move_on_after(_LAST_MESSAGES_SECONDS):
            await worker.process.wait()
        if worker.process.returncode is None:
            worker.process.kill()
            await worker.process.wait()
        del self._workers[worker.number]
        self._ended_targets = merge_states(self._ended_targets, map(ended_state, worker.targets))
        self._slots.remove(worker)
        for handoff, sock in take_queue(worker):
            ticket = worker.connections.pop(handoff.number)
            if sock is None:
                ticket.close()
            else:
                self.dispatcher.dispatch(PendingConnection(handoff, sock, ticket))
        if not self._draining.is_set() or worker.connections:
            self._deaths += 1
            _log.error("%s ended with %s; sessions lost: %d", worker, worker.ending, len(worker.connections))
        service, now = self._service, trio.current_time()
        for session, known in worker.sessions.items():
            service.limits.release_handshake(session)
            service.hub.filters.end_session(session)
            seconds = now - known.since
            service.emit(Disconnected(session=known.info, reason="failed", seconds=seconds, messages=known.messages))
        for ticket in worker.connections.values():
            ticket.close()
        if self._draining.is_set():
            self.dispatcher.refuse_pending()

    # Messages of a worker

    def _notifications(self, worker: WorkerProcess) -> NotificationHandlers:
        limits = self._service.limits
        handlers: dict[type, Any] = dict.fromkeys(EVENTS, self._service.emit)
        handlers[Connected] = partial(self._on_connected, worker)
        handlers[MessageAccepted] = handlers[MessageRefused] = partial(self._on_message, worker)
        handlers[Disconnected] = partial(self._on_disconnected, worker)
        handlers[ConnectionClosed] = lambda message: worker.connections.pop(message.number).close()
        handlers[HandshakeStarted] = lambda message: limits.handshakes.count(message.session, message.peer)
        handlers[HandshakeEnded] = lambda message: limits.release_handshake(message.session)
        handlers[UncountPeer] = lambda message: limits.uncount_peer(message.option, message.peer)
        handlers[PhaseEnded] = lambda message: self._service.hub.report_outcome(message.question, message.outcome)
        handlers[FilterUsed] = lambda message: self._service.hub.filters.report(message.use)
        handlers[TargetsChanged] = worker.on_targets_changed
        handlers[LogRecord] = write_log
        return handlers | self._slots.notifications(worker)

    def _on_connected(self, worker: WorkerProcess, event: Connected) -> None:
        worker.sessions[event.session.id] = SessionRecord(event.session, trio.current_time())
        self._service.emit(event)

    def _on_message(self, worker: WorkerProcess, event: MessageAccepted | MessageRefused) -> None:
        if known := worker.sessions.get(event.session.id):
            known.messages += 1
        self._service.emit(event)

    def _on_disconnected(self, worker: WorkerProcess, event: Disconnected) -> None:
        worker.sessions.pop(event.session.id, None)
        self._service.emit(event)

    # Changes for all workers

    def _on_certificates_reloaded(self, event: ServerEvent) -> None:
        """Let the workers read certificates that the watcher found changed."""
        if isinstance(event, CertificatesReloaded) and event.reason == "watch" and not self._renewing:
            self._renewing = True
            self._nursery.start_soon(self._renew)

    async def _renew(self) -> None:
        self._renewing = False
        await self.reload_certificates("watch")

    async def _send_interest(self) -> None:
        """Send the interest of the policy clients; return when every worker has handled it."""
        message = InterestChanged(self._service.hub.interest)
        for worker in tuple(self._workers.values()):
            worker.channel.send(message)
        await self._ask(self._ready_workers(), Ping())
