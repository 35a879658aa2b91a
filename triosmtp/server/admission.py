"""Admission: count each connection, or refuse it because a limit is reached.

Nothing else counts connections.  A ticket counts its connection until the ticket is closed.
"""

from collections.abc import Mapping
from typing import Final

import trio

from triosmtp.config import Listen, Settings
from triosmtp.limits.limit_reached import LimitReached
from triosmtp.limits.peer_count import PeerAddress, PeerCounts, peer_key
from triosmtp.server.generation import Generation
from triosmtp.server.statistics import Statistics
from triosmtp.smtp import TRUSTED_EXTENSIONS

__all__ = ["Admission", "AdmissionTicket", "expects_many_connections"]

_RATE: Final = LimitReached.CONNECTION_RATE_PER_PEER.value
_MAX_CONNECTIONS_PER_PEER: Final = 50
"""The default of Connections_Per_Peer: smtpd_client_connection_count_limit of Postfix."""


class AdmissionTicket:
    """An admitted connection.  It is counted from its making until :meth:`close`.

    ``peer`` is the key under which :meth:`Admission.admit` counted the peer.  In a worker it is None, because the
    supervisor has admitted the connection.
    """

    __slots__ = ("_admission", "_peer", "generation", "listen")

    def __init__(
        self, admission: "Admission", generation: Generation, listen: Listen, peer: tuple[int, int] | None
    ) -> None:
        admission.count(generation, listen)
        self._admission: Admission | None = admission
        self._peer = peer
        self.generation = generation
        """The configuration that was in force when the connection was admitted."""
        self.listen = listen

    def close(self) -> None:
        """Count the connection out.  May be called again."""
        admission, self._admission = self._admission, None
        if admission is not None:
            admission.release(self.generation, self.listen, self._peer)


class Admission:
    """Counts the connections of one server and enforces the limits on them."""

    __slots__ = ("_peers", "_sessions", "_statistics")

    def __init__(self, statistics: Statistics, peers: PeerCounts) -> None:
        self._statistics = statistics
        self._peers = peers
        self._sessions: dict[str, int] = {}  # by the name of the Listen

    @property
    def sessions_by_listener(self) -> Mapping[str, int]:
        """The number of sessions by the name of their Listen; a Listen without sessions is absent."""
        return dict(self._sessions)

    def sessions_of(self, listen: Listen) -> int:
        """Return the number of sessions of ``listen``."""
        return self._sessions.get(listen.name, 0)

    def admit(
        self,
        generation: Generation,
        listen: Listen,
        settings: Settings,
        peer: PeerAddress | None,
        *,
        rate_is_counted: bool = False,
    ) -> AdmissionTicket | LimitReached:
        """Count a connection from ``peer``, or return the limit that refuses it.

        ``settings`` are those for ``peer``.  A peer without an address, on a Unix socket, has no limit of its own.
        ``rate_is_counted`` is whether the caller has counted it for Connection_Rate_Per_Peer.
        """
        key = None
        if peer is not None:
            rate = settings.connection_rate_per_peer
            if not (rate is None or rate_is_counted or self._peers.count(_RATE, peer, rate, trio.current_time())):
                return LimitReached.CONNECTION_RATE_PER_PEER
            key = peer_key(peer)
            if not self._connect(key, peer, settings):
                return LimitReached.CONNECTIONS_PER_PEER
        reached = None
        if settings.listener_sessions and self.sessions_of(listen) >= settings.listener_sessions:
            reached = LimitReached.LISTENER_SESSIONS
        elif settings.service_sessions and self._statistics.sessions >= settings.service_sessions:
            reached = LimitReached.SERVICE_SESSIONS
        if reached is None:
            return AdmissionTicket(self, generation, listen, key)
        if key is not None:
            self._peers.disconnect(key)
        return reached

    def count(self, generation: Generation, listen: Listen) -> None:
        """Count a connection.  For :class:`AdmissionTicket` alone."""
        name, statistics = listen.name, self._statistics
        self._sessions[name] = self._sessions.get(name, 0) + 1
        generation.sessions += 1
        statistics.sessions += 1
        statistics.sessions_total += 1

    def release(self, generation: Generation, listen: Listen, peer: tuple[int, int] | None) -> None:
        """Count a connection out.  For :class:`AdmissionTicket` alone."""
        if peer is not None:
            self._peers.disconnect(peer)
        sessions = self._sessions[listen.name] - 1
        if sessions:
            self._sessions[listen.name] = sessions
        else:
            del self._sessions[listen.name]
        self._statistics.sessions -= 1
        generation.release()

    def _connect(self, key: tuple[int, int], peer: PeerAddress, settings: Settings) -> bool:
        limit = settings.connections_per_peer
        if limit is not None:
            return self._peers.connect(key, limit)
        if self._peers.connect(key, _MAX_CONNECTIONS_PER_PEER):
            return True
        return expects_many_connections(peer, settings) and self._peers.connect(key, 0)


def expects_many_connections(peer: PeerAddress | None, settings: Settings) -> bool:
    """Return whether many connections from ``peer`` are normal: it is local, trusted, or a proxy for others."""
    if peer is None or peer.is_loopback or peer in settings.proxy_protocol:
        return True
    if any(peer in network for network in settings.relay_hosts):
        return True
    return any(extension.upper() in TRUSTED_EXTENSIONS for extension in settings.smtp_extensions)
