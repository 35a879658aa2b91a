"""A worker: a process that serves sessions and nothing else.

It has two sockets from its supervisor: one for connections (``handoff.py``) and a channel for values (``channel.py``).
It binds nothing, watches no files, writes no log and handles no signal.  Events and log records go to the supervisor.
If the supervisor has ended, the worker finishes its transactions and ends.
"""

import gc
import logging
import os
import socket
import sys
from collections import deque
from contextlib import suppress
from typing import Final

import trio
from attrs import define, evolve

from triosmtp.config import Listen
from triosmtp.delivery import TargetState
from triosmtp.limits.fd_limit import max_connections
from triosmtp.limits.target_slots import SlotRegistry
from triosmtp.limits.timeouts import watch
from triosmtp.server.acceptor import Acceptor
from triosmtp.server.admission import AdmissionTicket
from triosmtp.server.generation import Generation
from triosmtp.server.local_sessions import LocalSessions, ScriptAnswer
from triosmtp.server.service import Service
from triosmtp.server.startup import open_service, prepare_generation
from triosmtp.server.tls_report import TLSReport, tls_report
from triosmtp.tls import ContextStore, build_context, load_material
from triosmtp.tls.certificate_renewal import reload_certificates
from triosmtp.tls.context_store import Renewal
from triosmtp.workers.channel import Channel, ChannelClosedError, NotificationHandlers, RequestHandlers
from triosmtp.workers.handoff import Handoff, receive_connection
from triosmtp.workers.remote_hub import RemoteHub
from triosmtp.workers.slot_lending import SupervisorLender
from triosmtp.workers.supervisor import count_workers
from triosmtp.workers.worker_limits import WorkerLimits
from triosmtp.workers.worker_messages import (
    CloseSession,
    Commit,
    ConnectionClosed,
    DescribeSession,
    DiscardPrepared,
    Drain,
    InterestChanged,
    ListSessions,
    LogRecord,
    Ping,
    Prepare,
    ReadBodyPart,
    ReloadCertificates,
    ReportTargets,
    ReportTLS,
    RunScriptCommand,
    SetVariables,
    SlotsGranted,
    SlotsRecalled,
    TargetsChanged,
    WorkerInit,
)

__all__ = ["main"]

_log = logging.getLogger("triosmtp.daemon")

_ACCEPTS_PER_TURN: Final = 64
"""Connections that are received before the sessions run again."""
_LAST_REPLY_SECONDS: Final = 5.0
"""Seconds that a session has for the 421 that ends its transaction."""
_TARGETS_SECONDS: Final = 1.0
"""Seconds between two reports of the targets, if their state changes all the time."""
_RETRY_SECONDS: Final = 0.1
"""Seconds until a connection is received again, if no descriptor was left."""
_REPEAT_LOG_SECONDS: Final = 10.0
"""Seconds before the same problem is logged again."""
_ORPHAN_SECONDS: Final = 30.0
"""Seconds that transactions may last in a worker whose supervisor has ended."""


@define(slots=True, eq=False)
class _Prepared:
    generation: Generation
    renewal: Renewal


class _LogHandler(logging.Handler):
    """Sends log records to the supervisor: one process writes the log, so that lines are never mixed."""

    def __init__(self, channel: Channel, token: trio.lowlevel.TrioToken) -> None:
        super().__init__()
        self._channel = channel
        self._token = token

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        fields = {"name": record.name, "levelno": record.levelno, "levelname": record.levelname}
        fields |= {"msg": record.getMessage(), "exc_text": record.exc_text, "created": record.created}
        # Threads log, too, and may outlive the event loop.
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._channel.send, LogRecord(fields | {"process": record.process}))


class _Ticket(AdmissionTicket):
    """A connection from the supervisor, which is notified when it ends."""

    __slots__ = ("_channel", "_number")

    def __init__(self, service: Service, listen: Listen, channel: Channel, number: int) -> None:
        super().__init__(service.limits.admission, service.generation, listen, None)
        self._channel = channel
        self._number = number

    def close(self) -> None:
        super().close()
        self._channel.send(ConnectionClosed(self._number))


class _Worker:
    """The sessions of one worker, in the nursery ``sessions``; ``background`` is for other tasks."""

    def __init__(
        self,
        service: Service,
        hub: RemoteHub,
        channel: Channel,
        connections: socket.socket,
        generation: int,
        *,
        sessions: trio.Nursery,
        background: trio.Nursery,
    ) -> None:
        self._service = service
        self._hub = hub
        self._channel = channel
        self._connections = connections
        self._generation = generation
        self._sessions = LocalSessions(service)
        self._session_tasks = sessions
        self._background = background
        self._acceptor = Acceptor(service, sessions)
        self._accepting = trio.CancelScope()
        self._draining = trio.Event()
        self._prepared: _Prepared | None = None
        self._early: deque[tuple[Handoff, socket.socket]] = deque()  # for a configuration that is not in force yet
        self._logged = -_REPEAT_LOG_SECONDS
        self._target_change = trio.Event()
        service.report_target_changes(self._on_target_change)

    def _on_target_change(self) -> None:
        self._target_change.set()

    async def report_targets(self) -> None:
        """Report to the supervisor when the availability of targets has changed, at most once a second."""
        while True:
            await self._target_change.wait()
            self._target_change = trio.Event()
            self._channel.send(TargetsChanged(self._service.profiles.targets.states()))
            await trio.sleep(_TARGETS_SECONDS)

    async def run(self) -> None:
        """Accept connections until drained."""
        with self._accepting:
            await self._accept()
        await self._draining.wait()

    async def converse(self) -> None:
        """Exchange messages with the supervisor, and drain when it has ended."""
        await self._channel.run(self._notifications(), self._requests())
        self._drain(_ORPHAN_SECONDS)

    def _notifications(self) -> NotificationHandlers:
        slots = self._service.profiles.targets.slots
        return {
            Commit: self._commit,
            DiscardPrepared: self._discard,
            Drain: lambda message: self._drain(message.grace),
            InterestChanged: lambda message: self._hub.apply(message.interest),
            SlotsGranted: lambda message: slots.grant(message.target, message.number),
            SlotsRecalled: lambda message: slots.recall(message.target, message.keep, message.unused),
        }

    def _requests(self) -> RequestHandlers:
        return {
            Prepare: self._prepare,
            Ping: self._answer_ping,
            ReloadCertificates: self._reload_certificates,
            ReportTLS: self._report_tls,
            ReportTargets: self._report_targets,
            RunScriptCommand: self._run_script_command,
            ListSessions: lambda _: self._sessions.inbound(),
            DescribeSession: lambda message: self._sessions.session(message.session),
            SetVariables: lambda message: self._sessions.set_variables(
                message.session, message.connection, message.message
            ),
            CloseSession: lambda message: self._sessions.close_session(message.session),
            ReadBodyPart: lambda message: self._sessions.body_part(
                message.question, message.session, message.start, message.size
            ),
        }

    # Messages of the supervisor

    async def _prepare(self, message: Prepare) -> None:
        service = self._service
        profiles = service.profiles.renewed(message.config)
        async with service.contexts.lock:
            try:
                generation, renewal = await trio.to_thread.run_sync(
                    prepare_generation, message.config, profiles, service.contexts
                )
            except BaseException:
                with trio.CancelScope(shield=True):
                    await profiles.discard()
                raise
        self._prepared = _Prepared(generation, renewal)

    def _commit(self, message: Commit) -> None:
        service, prepared = self._service, self._prepared
        assert prepared is not None, "Prepare comes before Commit"
        self._prepared = None
        former = service.activate(prepared.generation)
        service.profiles.start(self._background)
        service.contexts.adopt(_with_newer(prepared.renewal, service.contexts))
        self._generation = message.generation
        self._background.start_soon(former.close_when_unused)
        early, self._early = self._early, deque()
        for handoff, sock in early:
            self._serve(handoff, sock)

    def _discard(self, _message: DiscardPrepared) -> None:
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            self._background.start_soon(prepared.generation.profiles.discard)

    def _drain(self, grace: float) -> None:
        service = self._service
        service.draining = True
        self._accepting.cancel()
        # The supervisor sent all connections before this message.  Their clients receive a 421, and no reset.
        # Connections without a free descriptor stay in the queue, and the supervisor receives them at the end.
        self._receive(sys.maxsize)
        self._background.start_soon(self._expire, grace)
        self._acceptor.end_idle_tasks()
        for session in tuple(service.running):
            session.drain()
        self._draining.set()

    async def _expire(self, grace: float) -> None:
        """End the sessions that are left after ``grace`` seconds."""
        await trio.sleep(grace)
        for session in tuple(self._service.running):
            session.expire()
        await trio.sleep(_LAST_REPLY_SECONDS)
        self._session_tasks.cancel_scope.cancel()

    async def _report_targets(self, _message: ReportTargets) -> tuple[TargetState, ...]:
        await trio.lowlevel.checkpoint()
        return self._service.profiles.targets.states()

    async def _answer_ping(self, _message: Ping) -> None:
        await trio.lowlevel.checkpoint()

    async def _reload_certificates(self, message: ReloadCertificates) -> list[str]:
        service = self._service
        outcome = await reload_certificates(
            service.contexts, service.tls_settings, lambda _event: None, reason=message.reason
        )
        return list(dict.fromkeys(str(each.error) for each in outcome.problems.values()))

    async def _run_script_command(self, message: RunScriptCommand) -> ScriptAnswer | None:
        answers = await self._sessions.script_command(message.words)
        return answers[0] if answers else None

    async def _report_tls(self, _message: ReportTLS) -> TLSReport:
        return await tls_report(self._service)

    # Connections

    async def _accept(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._connections)
            if not self._receive(_ACCEPTS_PER_TURN):
                if trio.current_time() >= self._logged + _REPEAT_LOG_SECONDS:
                    self._logged = trio.current_time()
                    _log.error("no descriptor is left for a connection: trying again every %g s", _RETRY_SECONDS)
                await trio.sleep(_RETRY_SECONDS)

    def _receive(self, limit: int) -> bool:
        """Receive up to ``limit`` connections; return whether there was a descriptor for each."""
        for _ in range(limit):
            received = receive_connection(self._connections)
            if received is None:
                break
            handoff, sock = received
            if sock is None:
                return False
            self._serve(handoff, sock)
        return True

    def _serve(self, handoff: Handoff, sock: socket.socket) -> None:
        if handoff.generation > self._generation:
            self._early.append((handoff, sock))  # until its configuration is in force
            return
        service = self._service
        listen = service.generation.find_listen(handoff.listen)
        if listen is None:
            # A reload removed its Listen while it waited.
            sock.close()
            self._channel.send(ConnectionClosed(handoff.number))
            return
        ticket = _Ticket(service, listen, self._channel, handoff.number)
        try:
            settings = service.config.resolve(listen, handoff.peer.address)
            self._acceptor.start_session(ticket, settings, sock, handoff.peer, "")
        except Exception:  # noqa: BLE001 - an error of one connection must not end the worker
            _log.exception("a connection of %s cannot be served: it is closed", handoff.peer.text)
            sock.close()


def _contexts_of(init: WorkerInit) -> ContextStore:
    """Build the contexts that are in force in the supervisor, from the files that it has read."""
    return ContextStore(
        {settings: build_context(load_material(settings, dict(files))) for settings, files in init.files.items()}
    )


def _with_newer(renewal: Renewal, store: ContextStore) -> Renewal:
    """Return the renewal, but with the contexts in ``store`` if their settings are the same.

    Certificates may have been reloaded after the renewal was prepared: the supervisor's lock does not cover the worker.
    """
    in_force = {context.material.settings: context for context in store.contexts()}
    contexts = {settings: in_force.get(settings, context) for settings, context in renewal.contexts.items()}
    problems = {settings: problem for settings in contexts if (problem := store.problem(settings)) is not None}
    return evolve(renewal, contexts=contexts, problems=problems)


def main() -> None:
    """Serve the supervisor at the other ends of the descriptors that the command line names."""
    values, connections = (int(word) for word in sys.argv[1:3])
    for fd in (values, connections):
        os.set_inheritable(fd, False)
    trio.run(_run, socket.socket(fileno=values), socket.socket(fileno=connections))


async def _open_service(channel: Channel, init: WorkerInit, hub: RemoteHub) -> Service:
    """Make everything that the configuration names.

    :raises ConfigError: if something cannot be made.
    """
    workers = count_workers(init.config)
    limits = WorkerLimits(channel, init.config.base.tls_handshakes_max, workers)
    contexts = await trio.to_thread.run_sync(_contexts_of, init)
    return await open_service(
        init.config,
        observers=(channel.send,),
        hub=hub,
        contexts=contexts,
        mock_key=init.mock_key,
        is_worker=True,
        limits=limits,
        slots=SlotRegistry(workers, SupervisorLender(channel)),
    )


def _send_log(channel: Channel) -> None:
    logger = logging.getLogger("triosmtp")
    logger.addHandler(_LogHandler(channel, trio.lowlevel.current_trio_token()))
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for name in ("server", "tls"):
        # The supervisor reads the same configuration and the same files, and logs the same warnings.
        logger.getChild(name).setLevel(logging.ERROR)


async def _run(values: socket.socket, connections: socket.socket) -> None:
    """Serve until drained, or until the supervisor has ended and no transaction is left."""
    connections.setblocking(False)
    channel = Channel(values, waits=True)
    _send_log(channel)
    try:
        number, init = await channel.receive_first(WorkerInit)
    except ChannelClosedError:
        return
    hub = RemoteHub(channel, init.interest)
    try:
        service = await _open_service(channel, init, hub)
    except Exception as error:  # noqa: BLE001 - the supervisor reports it
        channel.answer(number, error=error)
        channel.flush()
        return
    async with trio.open_nursery() as background:
        background.start_soon(watch, service.running, name="session time-outs")
        service.profiles.targets.slots.nursery = background
        service.profiles.start(background)
        async with trio.open_nursery() as sessions:
            worker = _Worker(
                service, hub, channel, connections, init.generation, sessions=sessions, background=background
            )
            background.start_soon(worker.converse, name="supervisor")
            background.start_soon(worker.report_targets, name="targets")
            channel.answer(number, max(max_connections() // init.config.descriptors_per_session, 1))
            gc.freeze()  # as the server of one process does
            await worker.run()
        await service.profiles.aclose()
        channel.flush()
        background.cancel_scope.cancel()
