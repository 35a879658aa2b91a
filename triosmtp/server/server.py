"""serve(): from a configuration to sessions, to the next configuration, and to an orderly end.

Nurseries, one inside of the other: the accept loops inside, the sessions outside of them, policy clients around both.
To stop, the inner one is cancelled, the sessions are told, and theirs gets a deadline.
"""

import logging
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial

import trio
from attrs import evolve

from triosmtp.config import Config, Listen, Settings
from triosmtp.delivery import Delivery
from triosmtp.errors import ConfigError, Problem, Severity
from triosmtp.event import (
    CertificateReloadFailed,
    ConfigurationReloaded,
    ConfigurationReloadFailed,
    ConnectionRefused,
    Observer,
    PolicyClientRefused,
)
from triosmtp.limits.fd_limit import max_connections
from triosmtp.limits.peer_count import peer_key
from triosmtp.limits.timeouts import watch
from triosmtp.message import Message
from triosmtp.policy import Policy
from triosmtp.policy_service.hub import Hub
from triosmtp.server.embedded_warnings import warn_ignored_scopes
from triosmtp.server.policy_listener import (
    MAX_POLICY_CLIENTS,
    MAX_POLICY_CLIENTS_PER_PEER,
    PolicyEndpoint,
    serve_policy_client,
)
from triosmtp.server.proxy_protocol import read_proxy_header
from triosmtp.server.service import Service, Statistics
from triosmtp.server.session.driver import SMTPSession
from triosmtp.server.startup import open_service, prepare_generation
from triosmtp.server.worker_pool import WorkerPool
from triosmtp.smtp import Reply
from triosmtp.sockets.bound_socket import (
    Binding,
    InheritedSocket,
    Plan,
    close_sockets,
    find_bind_problems,
    listen_names,
    plan,
)
from triosmtp.sockets.listen_backlog import drain_backlog, shut
from triosmtp.sockets.listener import Peer, accept_connections, accept_pending, peer_from_sockaddr
from triosmtp.sockets.transport import SocketTransport, refuse_connection
from triosmtp.tls import ContextStore
from triosmtp.tls.context_store import renew
from triosmtp.tls.watcher import ReloadOutcome, reload_certificates, watch_certificates

__all__ = ["Server", "open_service", "serve"]

_log = logging.getLogger("triosmtp.server")

_GOODBYE = 1.0
"""Seconds that policy clients have to take leave of us."""
_LAST_WORDS = 5.0
"""Seconds that a session has for its 421, when it had no more time for its transaction."""
_AGAIN = 0.1
"""Seconds from one look for a free descriptor to the next."""
_TELL_AGAIN = 10.0
"""Seconds from one line of the log about the same trouble to the next."""
_THREADS = 60.0
"""Seconds more that workers have for deliveries in threads, which cannot be cancelled; then they are killed."""
_WATCH_AGAIN = 30.0
"""Seconds until watching is tried again, where it has failed."""


class Server:
    """A running server: what :func:`serve` gives to its caller."""

    def __init__(
        self, service: Service, bindings: Iterable[Binding], *, own_hub: bool = True, pool: WorkerPool | None = None
    ) -> None:
        self.service = service
        """What its sessions share; for those who show it."""
        self.pool = pool
        """Who serves the sessions; None: this process does."""
        self._own_hub = own_hub
        self._embedded = False  # if True, nobody serves the rest of the configuration: see serve()
        self._bindings = list(bindings)
        self._loops: trio.Nursery | None = None
        self._sessions: trio.Nursery | None = None
        self._guests: trio.Nursery | None = None
        self._watchers: trio.Nursery | None = None
        self._watching: trio.CancelScope | None = None
        self._clients: Counter[object] = Counter()  # policy clients by address
        self._announcing = 0  # proxies that have not said yet whom they speak for
        self._most = sys.maxsize  # connections that there are descriptors for
        self._full = -_TELL_AGAIN  # when it was told that there are so many
        self._grace = 0.0
        self._reloading = trio.Lock()
        self._refusing = trio.Event()
        self._ended = trio.Event()

    @property
    def addresses(self) -> dict[str, tuple[str, int]]:
        """Where each TCP Listen is bound, by its name: ``(host, port)``.  With port 0 this tells the port."""
        return self._addresses(for_policy=False)

    @property
    def policy_addresses(self) -> dict[str, tuple[str, int]]:
        """Where each TCP Listen of a Policy_Listener is bound, likewise."""
        return self._addresses(for_policy=True)

    def _addresses(self, *, for_policy: bool) -> dict[str, tuple[str, int]]:
        return {
            name: address
            for each in self._bindings
            if each.listen.for_policy is for_policy
            for name, address in each.addresses()
        }

    @property
    def statistics(self) -> Statistics:
        """What was counted since the server began."""
        return self.service.statistics

    async def aclose(self, grace: float = 30.0) -> None:
        """Stop accepting, let transactions under way finish, end the other sessions with 421, and wait for the end.

        So do those who wait to be accepted.  What is not done after ``grace`` seconds ends with 421, too.
        """
        self.service.draining, self._grace = True, grace
        if self._loops is not None and self._sessions is not None:
            self._loops.cancel_scope.cancel()
            scope = self._sessions.cancel_scope
            # Threads are waited for here, and so they are in workers: what a slow disk stores in the end is answered.
            rest = _LAST_WORDS if self.pool is None else _LAST_WORDS + _THREADS
            scope.deadline = min(scope.deadline, trio.current_time() + grace + rest)
            # Who is told to go away and comes back at once shall find the endpoint shut, not be queued and then reset.
            await self._refusing.wait()
        for session in tuple(self.service.running):
            session.drain()
        with trio.move_on_after(grace):
            await self._ended.wait()
        for session in tuple(self.service.running):
            session.expire()
        await self._ended.wait()

    async def reload(self, config: Config, *, reason: str = "reload") -> ConfigurationReloaded:
        """Put ``config`` in force for connections that begin from now on.

        Everything that it names is had first; an error changes nothing.  A Listen whose socket would be bound as it is
        keeps it, with the connections that wait in its queue.  A session that began before ends with 421 and
        Reconfig_Message at its next MAIL or RSET; a message under way is finished first.  Policies that lie in the
        configuration's folder are imported anew.  Certificates are read again.  ``reason`` says in the events who
        asked.

        :raises ConfigError: naming each thing that cannot be had, with its place in the configuration.
        """
        async with self._reloading:
            try:
                report = await self._reload(config, reason)
            except ConfigError as error:
                failed = ConfigurationReloadFailed(path=config.path, reason=reason, problems=error.problems)
                self.service.emit(failed)
                await self._note_certificate_problems()
                raise
        if self._embedded:
            warn_ignored_scopes(config)
        self.service.emit(report)
        await self.reload_certificates(reason=reason)
        return report

    async def reload_certificates(self, *, reason: str = "reload") -> ReloadOutcome:
        """Read all files of TLS again, and put in force what has changed and can be used."""
        service = self.service
        outcome = await reload_certificates(service.contexts, service.tls_settings, service.emit, reason=reason)
        if self.pool is not None:
            await self.pool.reload_certificates(reason)
        return outcome

    async def _note_certificate_problems(self) -> None:
        """Where files of the certificates in force are to blame for a failed reload, keep that in sight."""
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
        service, old = self.service, self.service.generation
        if service.draining:
            raise ConfigError([Problem(Severity.ERROR, "the server is shutting down: nothing is reloaded")])
        profiles = old.profiles.renewed(config)
        async with service.contexts.lock:
            try:
                generation, renewal = await trio.to_thread.run_sync(
                    prepare_generation, config, profiles, service.contexts
                )
                if self.pool is not None:
                    await self.pool.prepare(config)
                changes = self._plan(config)
            except BaseException:
                with trio.CancelScope(shield=True):
                    await profiles.discard()
                raise
            service.activate(generation)
            service.contexts.adopt(renewal)
            if self.pool is not None:
                self.pool.commit()
        before = [listen.name for binding in self._bindings for listen in binding.guests.values()]
        for kept in changes.kept:
            kept.follow()
        self._bindings = [*(kept.binding for kept in changes.kept), *changes.opened]
        after = [listen.name for binding in self._bindings for listen in binding.guests.values()]
        for binding in changes.opened:
            self._accept(binding)
        for binding in changes.closed:
            self._leave(binding)
        gone = {each.listen.name for each in changes.closed if each.listen.for_policy}
        service.hub.close_clients("going away", at=gone - {each.listen.name for each in self._bindings})
        await service.close_unused(old)
        await self._watch_certificates()
        return ConfigurationReloaded(
            path=config.path,
            reason=reason,
            opened=(*listen_names(changes.opened), *(name for name in after if name not in before)),
            closed=(*listen_names(changes.closed), *(name for name in before if name not in after)),
            kept=(*listen_names(changes.kept), *(name for name in after if name in before)),
            sessions=service.statistics.sessions - generation.sessions,
        )

    def _plan(self, config: Config) -> Plan:
        try:
            return plan(config, self._bindings)
        except ConfigError:
            if self.pool is not None:
                self.pool.discard()
            raise

    def _accept(self, binding: Binding) -> None:
        assert self._loops is not None, "serve() is running"
        self._loops.start_soon(self._serve_binding, binding, name=f"accept {binding.listen.name}")

    async def _serve_binding(self, binding: Binding) -> None:
        with binding.accepting:
            sessions = self._room if self.pool is None else self.pool.room
            room = None if binding.listen.for_policy else sessions
            await accept_connections(binding.sock, partial(self._take, binding), room)

    async def _room(self) -> int:
        """Wait until there are descriptors for more connections, and return for how many.

        Those that are kept back are for bodies and deliveries of the sessions that there are.
        """
        while True:
            room = self._most - self.service.statistics.sessions - self._announcing
            if room > 0:
                return room
            if trio.current_time() >= self._full + _TELL_AGAIN:
                self._full = trio.current_time()
                _log.warning("%d connections are open, no descriptor is left for more: they wait", self._most)
            await trio.sleep(_AGAIN)

    def _leave(self, binding: Binding) -> None:
        """Close a socket; where another one stands in its place, what waits in its queue is taken first."""
        successors = [each for each in self._bindings if each.succeeds(binding)]
        if successors:
            try:
                accept_pending(binding.sock, partial(self._take_over, successors), binding.settings.listen_backlog + 1)
            except OSError as error:
                _log.warning('Listen "%s": connections that waited are lost: %s', binding.listen.name, error.strerror)
        binding.close()

    def _take_over(self, successors: Iterable[Binding], sock: socket.socket, peer: Peer) -> None:
        """Take a connection that a socket has left behind, unless no other one is for the address that it came to."""
        for binding in successors:
            if binding.takes(sock):
                self._take(binding, sock, peer)
                return
        sock.close()

    def _take(self, binding: Binding, sock: socket.socket, peer: Peer) -> None:
        assert self._sessions is not None, "serve() is running"
        listen = binding.listen_of(sock)
        if listen.for_policy:
            self._take_client(listen, sock, peer)
            return
        config = self.service.config
        if listen is not binding.listen:
            binding.adjust(sock, config.resolve(listen, None))
        settings = config.resolve(listen, peer.address)
        if peer.address in settings.proxy_protocol:
            self._sessions.start_soon(self._take_from_proxy, binding, settings, sock, peer)
        else:
            self._begin(binding, listen, settings, sock, peer)

    async def _take_from_proxy(self, binding: Binding, settings: Settings, sock: socket.socket, proxy: Peer) -> None:
        begun = False
        self._announcing += 1
        try:
            local = binding.local or peer_from_sockaddr(sock.getsockname()).text
            listen = binding.listen_of(sock)
            peer = await read_proxy_header(self.service, listen, settings, SocketTransport(sock), proxy, local)
            if peer is not None and binding in self._bindings:  # a reload may have come before the header did
                listen = binding.listen_of(sock)  # as the configuration in force now has it
                self._begin(binding, listen, self.service.config.resolve(listen, peer.address), sock, peer)
                begun = True
        except Exception:  # noqa: BLE001 - one connection's failure must not end the server
            _log.exception("a connection of proxy %s cannot be served: it is closed", proxy.text)
        finally:
            self._announcing -= 1
            if not begun:
                sock.close()

    def _begin(self, binding: Binding, listen: Listen, settings: Settings, sock: socket.socket, peer: Peer) -> None:
        """Begin a session for an accepted connection, unless a limit is reached: then 421, and no session."""
        assert self._sessions is not None, "serve() is running"
        service = self.service
        refusal = begin(service, listen, settings, peer)
        if refusal is not None:
            refuse_connection(sock, refusal)
        elif self.pool is not None:
            self.pool.take(listen, sock, peer)
        else:
            try:
                driver = SMTPSession.of_socket(service, listen, settings, sock, peer, binding.local)
            except BaseException:
                service.peers.disconnect(peer.address)
                service.count_out(listen, service.generation)
                raise
            self._sessions.start_soon(run_session, service, listen, driver, name=f"session {driver.session.id}")

    def _take_client(self, listen: Listen, sock: socket.socket, peer: Peer) -> None:
        assert self._guests is not None, "serve() is running"
        service = self.service
        near = peer.address is None or peer.address.is_loopback
        key = None if near or peer.address is None else peer_key(peer.address)
        reason = ""
        if self._clients.total() >= MAX_POLICY_CLIENTS:
            reason = f"{MAX_POLICY_CLIENTS} clients are here already"
        elif not near and self._clients[key] >= MAX_POLICY_CLIENTS_PER_PEER:
            reason = f"{MAX_POLICY_CLIENTS_PER_PEER} clients of this address are here already"
        if reason:
            service.emit(PolicyClientRefused(peer=peer.text, listener=listen.name, reason=reason))
            sock.close()
            return
        endpoint = service.generation.policy_endpoints[listen.key]
        self._clients[key] += 1
        self._guests.start_soon(self._serve_client, endpoint, sock, peer, key)

    async def _serve_client(self, endpoint: PolicyEndpoint, sock: socket.socket, peer: Peer, key: object) -> None:
        try:
            await serve_policy_client(self.service, endpoint, sock, peer)
        finally:
            self._clients[key] -= 1
            if not self._clients[key]:
                del self._clients[key]

    async def _watch_certificates(self) -> None:
        """Begin to watch the files of TLS, or end it, as the generation in force demands."""
        service = self.service
        wanted = service.config.base.tls_watch and bool(service.tls_settings())
        if self._watching is not None and not wanted:
            self._watching.cancel()
            self._watching = None
        elif self._watching is None and wanted:
            assert self._watchers is not None, "serve() is running"
            self._watching = trio.CancelScope()
            await self._watchers.start(self._keep_watching, self._watching, name="certificates")

    async def _keep_watching(self, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
        service, begun = self.service, _Begun(task_status)
        try:
            with scope:
                while True:
                    try:
                        await watch_certificates(
                            service.contexts, service.tls_settings, service.emit, task_status=begun
                        )
                    except Exception:
                        if not begun.told:
                            raise
                        # Mail goes on, with the certificates in force; a reload by hand still works.
                        _log.exception("certificates are not watched; trying again in %g s", _WATCH_AGAIN)
                        await trio.sleep(_WATCH_AGAIN)
        finally:
            if self._watching is scope:
                self._watching = None

    async def _run(self, task_status: "trio.TaskStatus[Server]") -> None:
        try:
            self._most = max_connections()
            async with trio.open_nursery() as self._watchers:
                self._watchers.start_soon(watch, self.service.running, name="idle sessions")
                if self._own_hub:
                    await self._watchers.start(self.service.hub.run, name="policy clients")
                await self._watch_certificates()
                # Around the sessions: these may need to be decided about to their end.
                async with trio.open_nursery() as self._guests:
                    async with trio.open_nursery() as self._sessions:
                        if self.pool is not None:
                            await self._sessions.start(self.pool.run, name="workers")
                        async with trio.open_nursery() as self._loops:
                            for binding in self._bindings:
                                self._accept(binding)
                            task_status.started(self)
                        for binding in self._bindings:
                            shut(binding)
                        self._refusing.set()
                        await drain_backlog(self._bindings, self._take)
                        close_sockets(self._bindings)
                        if self.pool is not None:
                            self.pool.drain(self._grace)
                    self.service.hub.close_clients("going away", at={each.listen.name for each in self._bindings})
                    self._guests.cancel_scope.deadline = trio.current_time() + _GOODBYE
                self._watchers.cancel_scope.cancel()
        finally:
            close_sockets(self._bindings)
            self._refusing.set()
            self._ended.set()
            await self.service.profiles.aclose()


class _Begun:
    """A task status that may be told more than once: what is tried again begins again."""

    def __init__(self, task_status: trio.TaskStatus[None]) -> None:
        self._task_status = task_status
        self.told = False

    def started(self, value: None = None) -> None:
        if not self.told:
            self.told = True
            self._task_status.started(value)


async def serve(
    config: Config,
    *,
    policy: Policy | Iterable[Policy] | None = None,
    deliver: Delivery | Callable[[Message], Awaitable[None]] | None = None,
    observers: Iterable[Observer] = (),
    hub: Hub | None = None,
    sockets: Mapping[object, InheritedSocket] | None = None,
    contexts: ContextStore | None = None,
    pool: WorkerPool | None = None,
    embedded: bool = True,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve every enabled Listen of ``config`` until cancelled, or until :meth:`Server.aclose` was called.

    ``policy`` and ``deliver``, where given, stand in place of the options Policy and Deliver_To; ``deliver`` may be an
    async function: when it returns, the message is taken.  ``task_status`` gives the :class:`Server` when every socket
    listens.  ``hub`` is where policy clients are: one that the embedding program runs, or else one of the server's own.
    ``sockets`` are listening sockets that are there already, by the key of their Listen; ``contexts`` as for
    :func:`open_service`.  ``pool``, where given, serves the sessions; this process then only accepts them.

    What of a configuration ``triosmtp serve`` alone serves is a warning in the log ``triosmtp.server``: Log,
    Status_Listener, Control_Listener, Security, Workers.  ``embedded`` is False if the caller serves them.

    :raises ConfigError: before any connection is accepted, naming option, file and line of what cannot be had.
    """
    try:
        service = await open_service(
            config, policy=policy, deliver=deliver, observers=observers, hub=hub, contexts=contexts
        )
    except ConfigError as error:  # which hides no socket that cannot be had
        raise ConfigError([*error.problems, *find_bind_problems(config, sockets or {})]) from None
    if pool is not None:
        pool.attach(service)
    server = Server(service, plan(config, sockets=sockets).opened, own_hub=hub is None, pool=pool)
    server._embedded = embedded  # noqa: SLF001 - the two are one
    if embedded:
        warn_ignored_scopes(config)
    await server._run(task_status)  # noqa: SLF001 - the two are one


def begin(service: Service, listen: Listen, settings: Settings, peer: Peer) -> bytes | None:
    """Count a new session in; where a limit is reached, give what the peer is told instead of being served."""
    reached = service.admit_peer(peer.address, settings)
    if not reached:
        reached = service.admit(listen, settings.listener_sessions, settings.service_sessions)
        if not reached:
            return None
        service.peers.disconnect(peer.address)
    service.emit(ConnectionRefused(peer=peer.text, listener=listen.name, reason=reached))
    # Under Use_SSL a plaintext line would only look like a broken handshake.
    return b"" if settings.use_ssl else Reply(421, "Too many connections, try again later").render()


async def run_session(service: Service, listen: Listen, driver: SMTPSession) -> None:
    """Run a session that :func:`begin` counted in, and count it out."""
    address = driver.session.peer_address  # as it was counted in: a trusted peer may tell of another one
    try:
        await driver.run()
    finally:
        generation = driver.generation
        service.peers.disconnect(address)
        service.count_out(listen, generation)
        if generation is not service.generation:
            await service.close_unused(generation)
