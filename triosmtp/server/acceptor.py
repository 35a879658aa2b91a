"""The acceptor: from an accepted connection to its session.

The server, each worker and the test server use it.  It reads the PROXY header of a proxy, admits the connection or
refuses it, and starts the task of the session.  With workers it passes the connection to one of them instead.
"""

import logging
import socket
import sys
from typing import Final

import trio

from triosmtp.config import Listen, Settings
from triosmtp.event import ConnectionRefused
from triosmtp.limits.fd_limit import max_connections
from triosmtp.limits.limit_reached import LimitReached
from triosmtp.server.admission import AdmissionTicket
from triosmtp.server.proxy_protocol import read_proxy_header
from triosmtp.server.service import Service
from triosmtp.server.session.driver import SMTPSession
from triosmtp.server.session_tasks import SessionTasks
from triosmtp.server.worker_pool import WorkerPool
from triosmtp.smtp import Reply
from triosmtp.sockets.peer import Peer, peer_from_sockaddr
from triosmtp.sockets.transport import SocketTransport, refuse_connection

__all__ = ["Acceptor"]

_log = logging.getLogger("triosmtp.server")

_TOO_MANY: Final = Reply(421, "Too many connections, try again later").render()
_RATE: Final = LimitReached.CONNECTION_RATE_PER_PEER
_REPEAT_LOG_SECONDS: Final = 10.0
"""Seconds before the same problem is logged again."""


class Acceptor:
    """Starts a session in ``nursery`` for each accepted connection; if there is a ``pool``, in a worker.

    A connection is a socket, or any stream in tests.  The nursery ends only after :meth:`end_idle_tasks`.
    """

    __slots__ = (
        "_admit", "_descriptors", "_logged", "_max_connections", "_nursery", "_pool", "_service", "_tasks",
        "_undecided",
    )  # fmt: skip

    def __init__(self, service: Service, nursery: trio.Nursery, pool: WorkerPool | None = None) -> None:
        self._service = service
        self._nursery = nursery
        self._tasks = SessionTasks(service, nursery)
        self._pool = pool
        self._undecided = 0  # connections that wait for their PROXY header, or for the Limits_Store
        self._admit = self._admit_now if service.limits.shared is None else self._admit_if_within_rate
        self._max_connections = self._descriptors = sys.maxsize
        self._logged = -_REPEAT_LOG_SECONDS

    def limit_by_descriptors(self) -> int:
        """Accept no more connections than the process has file descriptors for; return how many that are.

        Call it when all other files are open.
        """
        self._descriptors = max_connections()
        return self.count_connections()

    def count_connections(self) -> int:
        """Return how many connections the descriptors suffice for with the configuration in force."""
        most = max(self._descriptors // self._service.generation.config.descriptors_per_session, 1)
        self._max_connections = most
        return most

    def capacity(self) -> int:
        """Return how many more connections can be served.

        Some descriptors are reserved for message bodies and deliveries of the sessions.
        """
        if self._pool is not None:
            return self._pool.capacity()
        free = self._max_connections - self._service.statistics.sessions - self._undecided
        if free <= 0 and trio.current_time() >= self._logged + _REPEAT_LOG_SECONDS:
            self._logged = trio.current_time()
            _log.warning("%d connections are open, no descriptor is left for more: they wait", self._max_connections)
        return free

    def accept(self, listen: Listen, connection: socket.socket | trio.abc.Stream, peer: Peer, local: str = "") -> None:
        """Serve a connection from ``peer`` to ``listen``.  ``local`` is its local address, if that is known."""
        settings = self._service.generation.config.resolve(listen, peer.address)
        if peer.address in settings.proxy_protocol:
            self._nursery.start_soon(self._accept_from_proxy, listen, settings, connection, peer, local)
        else:
            self._admit(listen, settings, connection, peer, local)

    def _admit_now(
        self,
        listen: Listen,
        settings: Settings,
        connection: socket.socket | trio.abc.Stream,
        peer: Peer,
        local: str,
        *,
        rate_is_counted: bool = False,
    ) -> None:
        service = self._service
        admit = service.limits.admission.admit
        ticket = admit(service.generation, listen, settings, peer.address, rate_is_counted=rate_is_counted)
        if not isinstance(ticket, AdmissionTicket):
            self._refuse(listen, settings, connection, peer, ticket)
        elif self._pool is not None:
            assert isinstance(connection, socket.socket), "only descriptors are passed to workers"
            self._pool.serve(ticket, connection, peer)
        else:
            self.start_session(ticket, settings, connection, peer, local)

    def end_idle_tasks(self) -> None:
        """Let the nursery end as soon as its sessions have ended: the server is draining."""
        self._tasks.end_idle()

    def start_session(
        self,
        ticket: AdmissionTicket,
        settings: Settings,
        connection: socket.socket | trio.abc.Stream,
        peer: Peer,
        local: str,
    ) -> None:
        """Start the session of an admitted connection.  The session owns the connection and the ticket then."""
        listen = ticket.listen
        try:
            profile = ticket.generation.profiles.of(listen, settings)
            if isinstance(connection, socket.socket):
                local = peer.local or local or peer_from_sockaddr(connection.getsockname()).text
                connection = SocketTransport(connection)
            session = SMTPSession(self._service, listen, profile, connection, peer, peer.local or local)
        except BaseException:
            ticket.close()
            raise
        self._tasks.start(session, ticket)

    def _refuse(
        self,
        listen: Listen,
        settings: Settings,
        connection: socket.socket | trio.abc.Stream,
        peer: Peer,
        reached: LimitReached,
    ) -> None:
        self._service.emit(ConnectionRefused(peer=peer.text, listener=listen.name, reason=reached.value))
        # With Use_SSL, a client would take a plaintext reply for a broken handshake.
        reply = b"" if settings.use_ssl else _TOO_MANY
        if isinstance(connection, socket.socket):
            refuse_connection(connection, reply)
        else:
            self._nursery.start_soon(_send_and_close, connection, reply)

    async def _accept_from_proxy(
        self, listen: Listen, settings: Settings, connection: socket.socket | trio.abc.Stream, proxy: Peer, local: str
    ) -> None:
        service, accepted = self._service, False
        self._undecided += 1
        try:
            if isinstance(connection, socket.socket):
                local = local or peer_from_sockaddr(connection.getsockname()).text
                stream: trio.abc.Stream = SocketTransport(connection)
            else:
                stream = connection
            peer = await read_proxy_header(service, listen, settings, stream, proxy, local)
            # A reload may have changed the configuration.
            now = service.generation.find_listen(listen.key)
            if peer is not None and now is not None:
                self._admit(now, service.config.resolve(now, peer.address), connection, peer, local)
                accepted = True
        except Exception:  # noqa: BLE001 - an error of one connection must not end the server
            _log.exception("a connection of proxy %s cannot be served: it is closed", proxy.text)
        finally:
            self._undecided -= 1
            if not accepted:
                await _close(connection)

    def _admit_if_within_rate(
        self, listen: Listen, settings: Settings, connection: socket.socket | trio.abc.Stream, peer: Peer, local: str
    ) -> None:
        if settings.connection_rate_per_peer is None or peer.address is None:
            self._admit_now(listen, settings, connection, peer, local)
        else:
            self._nursery.start_soon(self._count_and_admit, listen, settings, connection, peer, local)

    async def _count_and_admit(
        self, listen: Listen, settings: Settings, connection: socket.socket | trio.abc.Stream, peer: Peer, local: str
    ) -> None:
        """Admit a connection if the nodes together are within Connection_Rate_Per_Peer."""
        service, rate, done = self._service, settings.connection_rate_per_peer, False
        assert rate is not None, "there is something to count"
        self._undecided += 1
        try:
            within = await service.limits.count_peer(_RATE.value, peer.address, rate)
            now = service.generation.find_listen(listen.key)  # a reload may have changed the configuration
            if now is not None:
                settings = service.config.resolve(now, peer.address)
                done = True
                if within:
                    self._admit_now(now, settings, connection, peer, local, rate_is_counted=True)
                else:
                    self._refuse(now, settings, connection, peer, _RATE)
        except Exception:  # noqa: BLE001 - an error of one connection must not end the server
            _log.exception("a connection of %s cannot be served: it is closed", peer.text)
        finally:
            self._undecided -= 1
            if not done:
                await _close(connection)


async def _send_and_close(stream: trio.abc.Stream, reply: bytes) -> None:
    async with stream:
        if reply:
            await stream.send_all(reply)


async def _close(connection: socket.socket | trio.abc.Stream) -> None:
    if isinstance(connection, socket.socket):
        connection.close()
    else:
        await trio.aclose_forcefully(connection)
