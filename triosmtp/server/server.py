"""The running server: :func:`serve` starts it, and :class:`Server` reloads and ends it.

Four nurseries, one inside of the other: the accept loops are inside of the sessions.  The policy clients are outside of
the sessions, because they decide about them until the end.  The outermost is for tasks in the background.  To end, the
accept loops are cancelled, the sessions are asked to end, and their nursery gets a deadline.
"""

import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Final

import trio
from attrs import evolve

from triosmtp.config import Config
from triosmtp.delivery import Delivery
from triosmtp.errors import ConfigError, Problem, Severity
from triosmtp.event import (
    CertificateReloadFailed,
    ConfigurationReloaded,
    ConfigurationReloadFailed,
    Observer,
)
from triosmtp.limits.timeouts import watch
from triosmtp.message import Message
from triosmtp.policy import Policy
from triosmtp.policy_service.hub import Hub
from triosmtp.server.acceptor import Acceptor
from triosmtp.server.certificate_watcher import CertificateWatcher
from triosmtp.server.embedded_warnings import warn_ignored_scopes
from triosmtp.server.local_sessions import LocalSessions
from triosmtp.server.policy_listener import PolicyListener
from triosmtp.server.service import Service
from triosmtp.server.startup import open_service, prepare_generation
from triosmtp.server.statistics import Statistics
from triosmtp.server.worker_pool import OpenPool, WorkerPool
from triosmtp.sockets.bound_socket import (
    BoundSocket,
    InheritedSocket,
    SocketChanges,
    find_bind_problems,
    listen_names,
    plan_sockets,
)
from triosmtp.sockets.listen_backlog import drain_backlog, stop_syn
from triosmtp.sockets.listener import accept_pending
from triosmtp.sockets.listening_socket import close_sockets
from triosmtp.sockets.peer import Peer
from triosmtp.tls import ContextStore
from triosmtp.tls.certificate_renewal import ReloadOutcome, reload_certificates
from triosmtp.tls.context_store import renew

__all__ = ["Server", "run_server", "serve"]

_log = logging.getLogger("triosmtp.server")

_POLICY_CLIENT_CLOSE_SECONDS: Final = 1.0
"""Seconds that policy clients have to close their connections."""
_LAST_REPLY_SECONDS: Final = 5.0
"""Seconds that a session has for its 421 after its time for the transaction."""
_WORKER_THREAD_SECONDS: Final = 60.0
"""Further seconds that workers have for deliveries in threads, which cannot be cancelled.  Then they are killed."""


class Server:
    """A running server, as :func:`serve` passes it to its caller."""

    def __init__(
        self,
        service: Service,
        sockets: Iterable[BoundSocket],
        *,
        pool: WorkerPool | None,
        certificates: CertificateWatcher,
        background: trio.Nursery,
        policy_clients: trio.Nursery,
        sessions: trio.Nursery,
        accept_loops: trio.Nursery,
        embedded: bool,
    ) -> None:
        self.service = service
        """The state that its sessions share."""
        self.pool = pool
        """The workers that serve the sessions; None if this process does."""
        self.sessions: LocalSessions = LocalSessions(service) if pool is None else pool.sessions
        """The sessions, for policy clients and operators."""
        service.hub.attach(self.sessions)
        self._certificates = certificates
        self._background = background
        self._session_tasks = sessions
        self._accept_loops = accept_loops
        self._embedded = embedded  # whether other scopes of the configuration are not served: see serve()
        self._acceptor = Acceptor(service, sessions, pool)
        if pool is None:
            self._acceptor.limit_by_descriptors()
        self._policy_listener = PolicyListener(service, policy_clients)
        self._sockets: list[BoundSocket] = []
        self._reloading = trio.Lock()
        self._grace = 0.0
        self._refusing = trio.Event()
        self._ended = trio.Event()
        for bound in sockets:
            self._listen(bound)

    @property
    def addresses(self) -> dict[str, tuple[str, int]]:
        """The address of each TCP Listen for mail by its name: ``(host, port)``, with the real port for port 0."""
        return self._addresses(for_policy=False)

    @property
    def policy_addresses(self) -> dict[str, tuple[str, int]]:
        """The address of each TCP Listen of a Policy_Listener by its name."""
        return self._addresses(for_policy=True)

    def _addresses(self, *, for_policy: bool) -> dict[str, tuple[str, int]]:
        return {
            name: address
            for each in self._sockets
            if each.listen.for_policy is for_policy
            for name, address in each.addresses()
        }

    @property
    def statistics(self) -> Statistics:
        """The counters since the server started."""
        return self.service.statistics

    # Shutdown

    async def aclose(self, grace: float = 30.0) -> None:
        """Stop accepting, let transactions finish, end the other sessions with 421, and wait for the end.

        Connections that wait in the backlog receive a 421, too.  Transactions that are not finished after ``grace``
        seconds end with 421.
        """
        self.service.draining, self._grace = True, grace
        self._accept_loops.cancel_scope.cancel()
        # This deadline includes threads here, but not in workers: mail that a slow disk stores last is still answered.
        rest = _LAST_REPLY_SECONDS if self.pool is None else _LAST_REPLY_SECONDS + _WORKER_THREAD_SECONDS
        scope = self._session_tasks.cancel_scope
        scope.deadline = min(scope.deadline, trio.current_time() + grace + rest)
        # A client that reconnects at once after its 421 must be refused, not accepted into the backlog and reset.
        await self._refusing.wait()
        for session in tuple(self.service.running):
            session.drain()
        with trio.move_on_after(grace):
            await self._ended.wait()
        for session in tuple(self.service.running):
            session.expire()
        await self._ended.wait()

    async def finish_accepting(self) -> None:
        """Accept the connections in the backlogs, and close the sockets.  The accept loops have ended."""
        for bound in self._sockets:
            stop_syn(bound)
        self._refusing.set()
        await drain_backlog(self._sockets, self._accept)
        close_sockets(self._sockets)
        self._acceptor.end_idle_tasks()
        if self.pool is not None:
            self.pool.drain(self._grace)

    def close_policy_clients(self) -> None:
        """Ask the policy clients of this server to close their connections."""
        self.service.hub.close_clients(at={each.listen.name for each in self._sockets})

    def mark_ended(self) -> None:
        """Close the sockets, and let every :meth:`aclose` return.  All sessions have ended."""
        close_sockets(self._sockets)
        self._refusing.set()
        self._ended.set()

    # Reload

    async def reload(self, config: Config, *, reason: str = "reload") -> ConfigurationReloaded:
        """Put ``config`` in force for connections that begin from now on.

        Everything that it names is made first, and an error changes nothing.  A Listen whose socket would be bound in
        the same way keeps it, with its backlog.  A session that began before ends with 421 and Reconfig_Message at its
        next MAIL or RSET; a message under way is finished first.  Policies in the configuration's folder are imported
        again.  Certificates are read again.  ``reason`` says in the events who asked for the reload.

        :raises ConfigError: with a problem for everything that cannot be made, with its place in the configuration.
        """
        async with self._reloading:
            try:
                report = await self._reload(config, reason)
            except ConfigError as error:
                failed = ConfigurationReloadFailed(path=config.path, reason=reason, problems=error.problems)
                self.service.emit(failed)
                await self._record_certificate_problems()
                raise
        if self._embedded:
            warn_ignored_scopes(config)
        self.service.emit(report)
        await self.reload_certificates(reason=reason)
        return report

    async def reload_certificates(self, *, reason: str = "reload") -> ReloadOutcome:
        """Read all TLS files again, and put in force what has changed and can be used."""
        service = self.service
        outcome = await reload_certificates(service.contexts, service.tls_settings, service.emit, reason=reason)
        if self.pool is not None:
            await self.pool.reload_certificates(reason)
        return outcome

    async def _record_certificate_problems(self) -> None:
        """Record the problems of the certificate files in force, after a failed reload."""
        store = self.service.contexts
        async with store.lock:
            wanted = self.service.tls_settings()
            renewal = await trio.to_thread.run_sync(renew, store, wanted)
            store.adopt(evolve(renewal, contexts={each: store.get(each) for each in wanted}, renewed={}, changed={}))
        for settings in renewal.news:
            error = renewal.problems[settings].error
            self.service.emit(
                CertificateReloadFailed(file=str(error.path or ""), option=error.option, reason=error.reason)
            )

    async def _reload(self, config: Config, reason: str) -> ConfigurationReloaded:
        service = self.service
        if service.draining:
            raise ConfigError([Problem(Severity.ERROR, "the server is shutting down: nothing is reloaded")])
        profiles = service.profiles.renewed(config)
        async with service.contexts.lock:
            try:
                generation, renewal = await trio.to_thread.run_sync(
                    prepare_generation, config, profiles, service.contexts
                )
                await profiles.targets.check()
                if self.pool is not None:
                    await self.pool.prepare(config)
                changes = self._plan(config)
            except BaseException:
                with trio.CancelScope(shield=True):
                    await profiles.discard()
                raise
            former = service.activate(generation)
            self._acceptor.count_connections()
            service.contexts.adopt(renewal)
            if self.pool is not None:
                self.pool.commit()
            else:
                profiles.start(self._background)
        self._background.start_soon(former.close_when_unused)
        before, after = self._apply(changes)
        await self._certificates.apply()
        return ConfigurationReloaded(
            path=config.path,
            reason=reason,
            opened=(*listen_names(changes.opened), *(name for name in after if name not in before)),
            closed=(*listen_names(changes.closed), *(name for name in before if name not in after)),
            kept=(*listen_names(changes.kept), *(name for name in after if name in before)),
            sessions=service.statistics.sessions - generation.sessions,
        )

    def _plan(self, config: Config) -> SocketChanges:
        try:
            return plan_sockets(config, self._sockets)
        except ConfigError:
            if self.pool is not None:
                self.pool.discard()
            raise

    def _apply(self, changes: SocketChanges) -> tuple[list[str], list[str]]:
        """Change the sockets.  Return the Listens without a socket of their own, before and after."""
        before = [listen.name for bound in self._sockets for listen in bound.by_address.values()]
        self._sockets = changes.apply()
        after = [listen.name for bound in self._sockets for listen in bound.by_address.values()]
        for bound in changes.opened:
            self._start_accepting(bound)
        for bound in changes.closed:
            self._close_replaced(bound)
        gone = {each.listen.name for each in changes.closed if each.listen.for_policy}
        self.service.hub.close_clients(at=gone - {each.listen.name for each in self._sockets})
        return before, after

    # Connections

    def _listen(self, bound: BoundSocket) -> None:
        self._sockets.append(bound)
        self._start_accepting(bound)

    def _start_accepting(self, bound: BoundSocket) -> None:
        capacity = None if bound.listen.for_policy else self._acceptor.capacity
        self._accept_loops.start_soon(bound.accept, self._accept, capacity, name=f"accept {bound.listen.name}")

    def _accept(self, bound: BoundSocket, sock: socket.socket, peer: Peer) -> None:
        listen = bound.listen
        if bound.by_address:
            listen = bound.listen_of(sock)
            bound.set_nodelay(sock, self.service.config.resolve(listen, None))
        if listen.for_policy:
            self._policy_listener.accept(listen, sock, peer)
        else:
            self._acceptor.accept(listen, sock, peer, bound.local)

    def _close_replaced(self, bound: BoundSocket) -> None:
        """Close a socket.  If other sockets serve its address now, they get the connections in its backlog first."""
        successors = [each for each in self._sockets if each.replaces(bound)]
        if successors:
            try:
                accept_pending(
                    bound.sock, partial(self._accept_replaced, successors), bound.settings.listen_backlog + 1
                )
            except OSError as error:
                _log.warning('Listen "%s": connections in the backlog are lost: %s', bound.listen.name, error.strerror)
        bound.close()

    def _accept_replaced(self, successors: Iterable[BoundSocket], sock: socket.socket, peer: Peer) -> None:
        for bound in successors:
            if bound.serves_address_of(sock):
                self._accept(bound, sock, peer)
                return
        sock.close()


async def run_server(
    service: Service,
    sockets: Iterable[BoundSocket],
    *,
    run_hub: bool = True,
    open_pool: OpenPool | None = None,
    embedded: bool = True,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve ``service`` on ``sockets`` until cancelled, or until :meth:`Server.aclose` was called.

    ``run_hub`` is whether to run the hub of the service, too.  The arguments are otherwise those of :func:`serve`.
    """
    sockets, server = list(sockets), None
    try:
        async with trio.open_nursery() as background:
            background.start_soon(watch, service.running, name="session time-outs")
            if run_hub:
                await background.start(service.hub.run, name="policy clients")
            if service.publisher is not None:
                background.start_soon(service.publisher.run, name="published events")
            if open_pool is None:  # else the workers deliver
                service.profiles.start(background)
            if service.limits.shared is not None:
                await background.start(service.limits.shared.run, name="Limits_Store")
            certificates = CertificateWatcher(service, background)
            await certificates.apply()
            async with trio.open_nursery() as policy_clients:
                async with trio.open_nursery() as sessions:
                    pool = None if open_pool is None else await sessions.start(open_pool, service, name="workers")
                    async with trio.open_nursery() as accept_loops:
                        server = Server(
                            service,
                            sockets,
                            pool=pool,
                            certificates=certificates,
                            background=background,
                            policy_clients=policy_clients,
                            sessions=sessions,
                            accept_loops=accept_loops,
                            embedded=embedded,
                        )
                        task_status.started(server)
                    await server.finish_accepting()
                server.close_policy_clients()
                policy_clients.cancel_scope.deadline = trio.current_time() + _POLICY_CLIENT_CLOSE_SECONDS
            background.cancel_scope.cancel()
    finally:
        if server is None:
            close_sockets(sockets)
        else:
            server.mark_ended()
        await service.profiles.aclose()


async def serve(
    config: Config,
    *,
    policy: Policy | Iterable[Policy] | None = None,
    deliver: Delivery | Callable[[Message], Awaitable[None]] | None = None,
    observers: Iterable[Observer] = (),
    hub: Hub | None = None,
    sockets: Mapping[object, InheritedSocket] | None = None,
    contexts: ContextStore | None = None,
    open_pool: OpenPool | None = None,
    embedded: bool = True,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve every enabled Listen of ``config`` until cancelled, or until :meth:`Server.aclose` was called.

    ``policy`` and ``deliver`` replace the options Policy and Deliver_To.  ``deliver`` may be an async function: when it
    returns, the message is accepted.  ``task_status`` passes the :class:`Server` when every socket listens.  ``hub`` is
    a hub for policy clients that the embedding program runs; by default, the server has its own.

    ``sockets`` are listening sockets that are open already, by the key of their Listen.  ``contexts`` are as for
    :func:`~triosmtp.server.startup.open_service`.  ``open_pool`` starts workers that serve the sessions.

    Only ``triosmtp serve`` serves the scopes Log, Status_Listener, Control_Listener and Security and the option
    Workers.  If they are set, warnings are logged to ``triosmtp.server``.  ``embedded`` is False if the caller serves
    them.

    :raises ConfigError: before any connection is accepted, with option, file and line of everything that cannot be
        made.
    """
    try:
        service = await open_service(
            config, policy=policy, deliver=deliver, observers=observers, hub=hub, contexts=contexts
        )
    except ConfigError as error:  # report the problems of sockets, too
        raise ConfigError([*error.problems, *find_bind_problems(config, sockets or {})]) from None
    bound = plan_sockets(config, sockets=sockets).opened
    if embedded:
        warn_ignored_scopes(config)
    await run_server(
        service, bound, run_hub=hub is None, open_pool=open_pool, embedded=embedded, task_status=task_status
    )
