"""A worker: a process that serves sessions, and nothing else.

It has two sockets from its supervisor: one that brings connections, a packet each (``handover.py``), and a channel for
values (``channel.py``).  It binds nothing, watches no files, writes no log and hears no signal; what happens is told to
the supervisor, and what is to be done is told by it.  Where that one is gone, the worker finishes what is under way and
ends.
"""

import logging
import os
import signal
import socket
import sys
from collections import deque
from contextlib import suppress
from functools import partial
from typing import Any, Final

import trio
from attrs import define, evolve

from triosmtp.config import Config, Listen, Settings, TCPAddress
from triosmtp.limits.fd_limit import max_connections
from triosmtp.limits.peer_count import PeerAddress
from triosmtp.limits.timeouts import watch
from triosmtp.policy import Session
from triosmtp.policy_service.question import Interest
from triosmtp.server.local_sessions import LocalSessions
from triosmtp.server.server import open_service, run_session
from triosmtp.server.service import Generation, Service
from triosmtp.server.session.driver import SMTPSession
from triosmtp.server.startup import prepare_generation
from triosmtp.server.tls_report import tls_report
from triosmtp.tls import ContextStore, build_context, load_material
from triosmtp.tls.context_store import Renewal
from triosmtp.tls.watcher import reload_certificates
from triosmtp.workers.channel import Channel, ChannelClosedError
from triosmtp.workers.handoff import Handoff, WorkerInit, receive_connection
from triosmtp.workers.remote_hub import RemoteHub
from triosmtp.workers.supervisor import workers_of

__all__ = ["main"]

_log = logging.getLogger("triosmtp.daemon")

_PER_TURN: Final = 64
_LAST_WORDS: Final = 5.0
"""Seconds that sessions have for a 421 that takes the place of what they were about."""
_TELL_AGAIN: Final = 10.0
"""Seconds from one line of the log about the same trouble to the next."""
_ORPHANED: Final = 30.0
"""Seconds that a worker without a supervisor goes on."""


@define(slots=True, eq=False)
class _Prepared:
    generation: Generation
    renewal: Renewal


class _Log(logging.Handler):
    """Has the supervisor write what this process logs: one process writes the log, so that no line breaks another."""

    def __init__(self, channel: Channel, token: trio.lowlevel.TrioToken) -> None:
        super().__init__()
        self._channel = channel
        self._token = token

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        fields = {"name": record.name, "levelno": record.levelno, "levelname": record.levelname}
        fields |= {"msg": record.getMessage(), "exc_text": record.exc_text, "created": record.created}
        # Records come from threads, too, and those may outlive the loop.
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._channel.post, "log", fields | {"process": record.process})


class _Worker:
    def __init__(self, values: socket.socket, connections: socket.socket) -> None:
        self._connections = connections
        self._channel = Channel(
            values,
            posts={
                "commit": self._commit,
                "discard": self._discard,
                "drain": self._drain,
                "interest": self._follow,
            },
            calls={
                "start": self._start,
                "prepare": self._prepare,
                "confirm": trio.lowlevel.checkpoint,
                "reload certificates": self._reload_certificates,
                "ask": self._ask,
                "session": self._session,
                "set variables": self._set_variables,
                "close session": self._close_session,
                "body part": self._body_part,
            },
            patient=True,
        )
        self._started = trio.Event()
        self._draining = trio.Event()
        self._accepting = trio.CancelScope()
        self._service: Service | None = None
        self._sessions: trio.Nursery | None = None
        self._background: trio.Nursery | None = None
        self._generation = 0
        self._told = -_TELL_AGAIN
        self._listens: dict[object, Listen] = {}
        self._prepared: _Prepared | None = None
        self._interest: Interest | None = None
        self._early: deque[tuple[Handoff, socket.socket]] = deque()

    async def run(self) -> None:
        """Serve until drained; or until the supervisor is gone, and what was under way is done."""
        logger = logging.getLogger("triosmtp")
        logger.addHandler(_Log(self._channel, trio.lowlevel.current_trio_token()))
        logger.setLevel(logging.INFO)
        logger.propagate = False
        for name in ("server", "tls"):
            # The supervisor reads the same configuration and the same files, and warns of them itself.
            logger.getChild(name).setLevel(logging.ERROR)
        async with trio.open_nursery() as self._background:
            self._background.start_soon(self._converse)
            await self._started.wait()
            async with trio.open_nursery() as self._sessions:
                self._background.start_soon(watch, self._running.running, name="idle sessions")
                with self._accepting:
                    await self._accept()
                await self._draining.wait()
            await self._running.profiles.aclose()
            self._channel.flush()
            self._background.cancel_scope.cancel()

    @property
    def _running(self) -> Service:
        assert self._service is not None, "it was started"
        return self._service

    @property
    def _host(self) -> LocalSessions:
        assert self._running.host is not None, "open_service() attached it"
        return self._running.host

    async def _converse(self) -> None:
        await self._channel.run()
        # The supervisor is gone.
        if not self._started.is_set():
            assert self._background is not None, "it runs there"
            self._background.cancel_scope.cancel()
            return
        self._drain(_ORPHANED)

    # From the supervisor

    async def _start(self, start: WorkerInit) -> int:
        """Have everything that the configuration names; give for how many connections there is room.

        :raises ConfigError: where it cannot be had.
        """
        hub = RemoteHub(self._channel, start.interest)
        contexts = await trio.to_thread.run_sync(_contexts_of, start)
        make = partial(_WorkerService, self._channel)
        service = await open_service(
            start.config, hub=hub, contexts=contexts, mock_key=start.mock_key, is_part=True, make=make
        )
        service.space.processes = workers_of(start.config)
        service.observe(partial(self._channel.post, "event"))
        self._service, self._generation = service, start.generation
        hub.apply(self._interest or start.interest)
        self._listens = _by_key(start.config)
        self._started.set()
        return max_connections()

    async def _prepare(self, config: Config) -> None:
        service = self._running
        profiles = service.profiles.renewed(config)
        async with service.contexts.lock:
            try:
                generation, renewal = await trio.to_thread.run_sync(
                    prepare_generation, config, profiles, service.contexts
                )
            except BaseException:
                with trio.CancelScope(shield=True):
                    await profiles.discard()
                raise
        self._prepared = _Prepared(generation, renewal)

    def _commit(self, number: int) -> None:
        service, prepared = self._running, self._prepared
        assert prepared is not None, "it was prepared"
        old, self._prepared = service.generation, None
        service.activate(prepared.generation)
        service.contexts.adopt(_with_newer(prepared.renewal, service.contexts))
        self._generation, self._listens = number, _by_key(service.config)
        assert self._background is not None, "it runs"
        self._background.start_soon(service.close_unused, old)
        early, self._early = self._early, deque()
        for handed, sock in early:
            self._take(handed, sock)

    def _discard(self) -> None:
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            assert self._background is not None, "it runs"
            self._background.start_soon(prepared.generation.profiles.discard)

    def _drain(self, grace: float) -> None:
        service, sessions = self._running, self._sessions
        service.draining = True
        self._accepting.cancel()
        # All that the supervisor handed over came before this; what is refused here is told so, and not reset.  (What
        # no descriptor is left for stays where it is: the supervisor takes it out, at the end.)
        if sessions is not None:
            self._take_waiting(sys.maxsize)
            assert self._background is not None, "it runs"
            self._background.start_soon(self._expire, grace, sessions)
        for session in tuple(service.running):
            session.drain()
        self._draining.set()

    async def _expire(self, grace: float, sessions: trio.Nursery) -> None:
        """End what is under way yet when its time is over."""
        await trio.sleep(grace)
        for session in tuple(self._running.running):
            session.expire()
        await trio.sleep(_LAST_WORDS)
        sessions.cancel_scope.cancel()

    def _follow(self, interest: Interest) -> None:
        self._interest = interest
        if self._service is not None:
            assert isinstance(self._service.hub, RemoteHub), "it was made here"
            self._service.hub.apply(interest)

    async def _reload_certificates(self, reason: str) -> list[str]:
        """Read the files of TLS again; give what cannot be used."""
        await self._started.wait()
        service = self._running
        outcome = await reload_certificates(service.contexts, service.tls_settings, lambda _event: None, reason=reason)
        return list(dict.fromkeys(str(each.error) for each in outcome.problems.values()))

    async def _ask(self, what: str) -> Any:
        if what == "contexts":
            return await tls_report(self._running)
        return await self._host.inbound()

    async def _session(self, session: str) -> dict[str, Any] | None:
        return await self._host.session(session)

    async def _set_variables(self, session: str, connection: dict[str, Any], message: dict[str, Any]) -> bool:
        return await self._host.set_variables(session, connection, message)

    async def _close_session(self, session: str) -> bool:
        return await self._host.close_session(session)

    async def _body_part(self, question: str, session: str, start: int, size: int) -> tuple[bytes, int] | None:
        return await self._host.body_part(question, session, start, size)

    # Connections

    async def _accept(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._connections)
            if not self._take_waiting(_PER_TURN):
                if trio.current_time() >= self._told + _TELL_AGAIN:
                    self._told = trio.current_time()
                    _log.error("no descriptor is left for a connection: trying again every 0.1 s")
                await trio.sleep(0.1)

    def _take_waiting(self, limit: int) -> bool:
        """Take up to ``limit`` connections; give whether there was a descriptor for each."""
        for _ in range(limit):
            received = receive_connection(self._connections)
            if received is None:
                break
            handed, sock = received
            if sock is None:
                return False
            self._take(handed, sock)
        return True

    def _take(self, handed: Handoff, sock: socket.socket) -> None:
        if handed.generation > self._generation:
            self._early.append((handed, sock))  # its configuration is on its way
            return
        service, sessions = self._running, self._sessions
        assert sessions is not None, "it runs"
        listen = self._listen_of(handed)
        if listen is None:
            # It was accepted by a Listen that has gone while it waited here.
            sock.close()
            self._channel.post("over", handed.number)
            return
        service.admit(listen, 0, 0)
        try:
            settings = service.config.resolve(listen, handed.peer.address)
            driver = SMTPSession.of_socket(service, listen, settings, sock, handed.peer)
        except Exception:  # noqa: BLE001 - one connection's failure must not end the worker
            _log.exception("a connection of %s cannot be served: it is closed", handed.peer.text)
            sock.close()
            service.count_out(listen, service.generation)
            self._channel.post("over", handed.number)
            return
        sessions.start_soon(self._serve, listen, driver, handed.number, name=f"session {driver.session.id}")

    def _listen_of(self, handed: Handoff) -> Listen | None:
        """Return the Listen that a connection came to; where that has gone, the wildcard that took its place."""
        listen = self._listens.get(handed.listen)
        if listen is None and isinstance(handed.listen, TCPAddress):
            return self._running.config.find_listen_for(handed.listen)
        return listen

    async def _serve(self, listen: Listen, driver: SMTPSession, number: int) -> None:
        try:
            await run_session(self._running, listen, driver)
        finally:
            self._channel.post("over", number)


class _WorkerService(Service):
    """A service that is part of another one: what is counted for all is counted there."""

    def __init__(self, channel: Channel, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._channel = channel
        self._shaking: set[str] = set()

    async def admit_handshake(self, session: Session, settings: Settings) -> str:
        """Let a handshake in, unless a limit of the whole service is reached."""
        per_peer = settings.tls_handshakes_per_peer
        self._shaking.add(session.id)
        if not self.handshakes.limit and per_peer is None:
            self._channel.post("handshake", session.id)  # to be counted; nothing can be said against it
            return ""
        try:
            reached: str = await self._channel.call("handshake", session.id, session.peer_address, per_peer)
        except ChannelClosedError:
            return ""
        return reached

    async def count_peer(self, option: str, peer: PeerAddress | None, limit: tuple[int, float]) -> bool:
        """Count one more of the peer's, for the whole service."""
        try:
            return bool(await self._channel.call("count", option, peer, limit))
        except ChannelClosedError:
            return True

    def uncount_peer(self, option: str, peer: PeerAddress | None) -> None:
        """Take back one that :meth:`count_peer` counted."""
        self._channel.post("uncount", option, peer)

    def leave_handshake(self, session: str) -> None:
        """Count the handshake of ``session`` out."""
        if session in self._shaking:
            self._shaking.discard(session)
            self._channel.post("handshake over", session)


def _contexts_of(start: WorkerInit) -> ContextStore:
    """Build the contexts that are in force in the supervisor, from what it has read."""
    return ContextStore(
        {settings: build_context(load_material(settings, dict(files))) for settings, files in start.files.items()}
    )


def _with_newer(renewal: Renewal, store: ContextStore) -> Renewal:
    """Return the renewal with the contexts in force where there are some.

    Certificates may have been reloaded since the renewal was prepared: the supervisor's lock does not cover the worker.
    """
    in_force = {context.material.settings: context for context in store.contexts()}
    contexts = {settings: in_force.get(settings, context) for settings, context in renewal.contexts.items()}
    problems = {settings: problem for settings in contexts if (problem := store.problem(settings)) is not None}
    return evolve(renewal, contexts=contexts, problems=problems)


def _by_key(config: Config) -> dict[object, Listen]:
    return {listen.key: listen for listen in config.listens}


def main() -> None:
    """Work for the supervisor at the other end of the descriptors that the command line names."""
    # The terminal's signals go to every process of the service, and so do systemd's; the supervisor's is to heed them.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _pass)  # not SIG_IGN, which what a policy starts would inherit
    values, connections = (int(word) for word in sys.argv[1:3])
    for fd in (values, connections):
        os.set_inheritable(fd, False)
    worker_sockets = socket.socket(fileno=values), socket.socket(fileno=connections)
    trio.run(_run, *worker_sockets)


def _pass(_number: int, _frame: object) -> None:
    pass


async def _run(values: socket.socket, connections: socket.socket) -> None:
    connections.setblocking(False)
    await _Worker(values, connections).run()


if __name__ == "__main__":
    main()
