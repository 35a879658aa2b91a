"""serve(): from a configuration to sessions, and an orderly end.

Nurseries, one inside of the other: the accept loops inside, the sessions outside of them.  To stop, the inner one is
cancelled, the sessions are told, and theirs gets a deadline.
"""

import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import trio

from triosmtp.config import Config, Listen, Settings, TCPAddress, UnixAddress
from triosmtp.delivery import Delivery, FunctionDelivery
from triosmtp.errors import ConfigError, Problem
from triosmtp.event import ConnectionRefused, Observer
from triosmtp.message import Message
from triosmtp.policy import Policy
from triosmtp.server.listener import Peer, accept_connections, bind, peer_of, unlink_if_ours
from triosmtp.server.patience import watch
from triosmtp.server.profile import Profile, Profiles, material_problem
from triosmtp.server.service import Service, Statistics
from triosmtp.server.session import SessionDriver
from triosmtp.server.transport import SocketTransport
from triosmtp.smtp import Reply
from triosmtp.tls import ContextStore, MaterialError, ServerContext, TLSSettings, build_context, load_material

__all__ = ["Server", "open_service", "serve"]

_log = logging.getLogger("triosmtp.server")


class Server:
    """A running server: what :func:`serve` gives to its caller."""

    def __init__(self, service: Service, listens: list[tuple[Listen, socket.socket]], scope: trio.CancelScope) -> None:
        self._service = service
        self._accepting = scope
        self._sessions_scope = trio.CancelScope()
        self._refusing = trio.Event()
        self._ended = trio.Event()
        self.addresses: dict[str, tuple[str, int]] = {
            listen.name: sock.getsockname()[:2] for listen, sock in listens if isinstance(listen.address, TCPAddress)
        }
        """Where each TCP Listen is bound, by its name: ``(host, port)``.  With port 0 this tells the port."""

    @property
    def statistics(self) -> Statistics:
        """What was counted since the server began."""
        return self._service.statistics

    async def aclose(self, grace: float = 30.0) -> None:
        """Stop accepting, let transactions under way finish, end the other sessions with 421, and wait for the end.

        What is not done after ``grace`` seconds is cancelled.
        """
        self._accepting.cancel()
        self._service.draining = True
        self._sessions_scope.deadline = min(self._sessions_scope.deadline, trio.current_time() + grace)
        # Who is told to go away and comes back at once shall be refused by the kernel, not queued and then reset.
        await self._refusing.wait()
        for session in tuple(self._service.running):
            session.drain()
        await self._ended.wait()


async def open_service(
    config: Config,
    *,
    policy: Policy | Iterable[Policy] | None = None,
    deliver: Delivery | Callable[[Message], Awaitable[None]] | None = None,
    observers: Iterable[Observer] = (),
) -> Service:
    """Make everything that sessions of ``config`` need, but no socket.

    :raises ConfigError: naming each policy, delivery and certificate that cannot be had, with its place in the
        configuration.
    :raises TypeError: where ``policy`` or ``deliver`` is something else.
    """
    if not (deliver is None or isinstance(deliver, Delivery) or callable(deliver)):
        raise TypeError(f"deliver is a Delivery or an async function, not {deliver!r}")
    delivery = deliver if deliver is None or isinstance(deliver, Delivery) else FunctionDelivery(deliver)
    policies = None if policy is None else (policy,) if isinstance(policy, Policy | type) else tuple(policy)
    for each in policies or ():
        if not isinstance(each, Policy):
            raise TypeError(f"policy is a Policy or several of them: instances, not {each!r}")
    profiles = Profiles(config, socket.gethostname(), policies=policies, delivery=delivery)
    prepared = await trio.to_thread.run_sync(profiles.prepare)
    contexts = ContextStore(await trio.to_thread.run_sync(_build_contexts, prepared))
    return Service(config, profiles, contexts, observers)


def _build_contexts(profiles: list[Profile]) -> dict[TLSSettings, ServerContext]:
    contexts: dict[TLSSettings, ServerContext] = {}
    problems: list[Problem] = []
    for profile in profiles:
        if profile.tls is None or profile.tls in contexts:
            continue
        try:
            context = contexts[profile.tls] = build_context(load_material(profile.tls))
        except MaterialError as error:
            problem = material_problem(profile.settings, profile.server_names, error)
            if problem not in problems:
                problems.append(problem)
            continue
        for warning in context.material.warnings:
            found = material_problem(profile.settings, profile.server_names, warning, "warning")
            _log.warning("%s: %s", found.position, found.message)
    if problems:
        raise ConfigError(problems)
    return contexts


async def serve(
    config: Config,
    *,
    policy: Policy | Iterable[Policy] | None = None,
    deliver: Delivery | Callable[[Message], Awaitable[None]] | None = None,
    observers: Iterable[Observer] = (),
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve every enabled Listen of ``config`` until cancelled, or until :meth:`Server.aclose` was called.

    ``policy`` and ``deliver``, where given, stand in place of the options Policy and Deliver_To; ``deliver`` may be an
    async function: when it returns, the message is taken.  ``task_status`` gives the :class:`Server` when every socket
    listens.

    :raises ConfigError: before any connection is accepted, naming option, file and line of what cannot be had.
    """
    service = await open_service(config, policy=policy, deliver=deliver, observers=observers)
    with ExitStack() as stack:
        listens = _bind_all(config, stack)
        accepting = trio.CancelScope()
        server = Server(service, listens, accepting)
        try:
            async with trio.open_nursery() as watching:
                watching.start_soon(watch, service.running, name="idle sessions")
                async with trio.open_nursery() as sessions:
                    server._sessions_scope = sessions.cancel_scope  # noqa: SLF001 - the two are one
                    with accepting:
                        async with trio.open_nursery() as loops:
                            for listen, sock in listens:
                                take = partial(_take, service, listen, _bound(sock), sessions)
                                loops.start_soon(accept_connections, sock, take, name=f"accept {listen.name}")
                            task_status.started(server)
                    stack.close()  # nobody accepts: the kernel shall refuse, not queue
                    server._refusing.set()  # noqa: SLF001 - the two are one
                watching.cancel_scope.cancel()
        finally:
            server._refusing.set()  # noqa: SLF001 - the two are one
            server._ended.set()  # noqa: SLF001 - the two are one
            for delivery in service.profiles.deliveries:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                    await delivery.aclose()


def _bind_all(config: Config, stack: ExitStack) -> list[tuple[Listen, socket.socket]]:
    listens: list[tuple[Listen, socket.socket]] = []
    problems: list[Problem] = []
    for listen in config.listens:
        settings = config.resolve(listen, None)
        try:
            sock = bind(listen, settings, config.listens)
        except OSError as error:
            problems.append(listen.problem(f'Listen "{listen.name}": {os.strerror(error.errno or 0)}'))
            continue
        stack.callback(sock.close)
        if isinstance(listen.address, UnixAddress):
            path = Path(listen.address.path)
            stack.callback(unlink_if_ours, path, path.lstat().st_ino)
        listens.append((listen, sock))
    if problems:
        raise ConfigError(problems)
    return listens


def _take(
    service: Service, listen: Listen, bound: str, sessions: trio.Nursery, sock: socket.socket, peer: Peer
) -> None:
    """Begin a session for an accepted connection, unless a limit is reached: then 421, and no session."""
    settings = service.config.resolve(listen, peer.address)
    refusal = begin(service, listen, settings, peer)
    if refusal is not None:
        with sock:
            _try_send(sock, refusal)  # a fresh connection takes one line at once or never: nobody waits here
        return
    local = bound or peer_of(sock.getsockname()).text
    driver = SessionDriver(service, listen, service.profiles.of(listen, settings), SocketTransport(sock), peer, local)
    sessions.start_soon(run_session, service, listen, driver, name=f"session {driver.session.id}")


def _bound(listening: socket.socket) -> str:
    """Give the local address of every connection of this socket, or ``""`` where each has its own: on a wildcard."""
    peer = peer_of(listening.getsockname())
    return "" if peer.address is not None and peer.address.is_unspecified else peer.text


def _try_send(sock: socket.socket, data: bytes) -> None:
    try:
        sock.send(data)
    except OSError as error:
        _log.debug("a refused connection had gone already: %s", error)


def begin(service: Service, listen: Listen, settings: Settings, peer: Peer) -> bytes | None:
    """Count a new session in; where a limit is reached, give what the peer is told instead of being served."""
    reached = service.admit(listen, settings.listener_sessions, settings.service_sessions)
    if not reached:
        return None
    service.tell(ConnectionRefused(peer.text, listen.name, reached))
    # Under Use_SSL a plaintext line would only look like a broken handshake.
    return b"" if settings.use_ssl else Reply(421, "Too many connections, try again later", "4.7.0").render()


async def run_session(service: Service, listen: Listen, driver: SessionDriver) -> None:
    """Run a session that :func:`begin` counted in, and count it out."""
    try:
        await driver.run()
    finally:
        service.release(listen)
