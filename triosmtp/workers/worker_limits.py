"""The limits in a worker: the supervisor counts what is limited for all workers together."""

from typing import Final

from triosmtp.config import Settings
from triosmtp.limits.limit_reached import LimitReached
from triosmtp.limits.peer_count import PeerAddress
from triosmtp.policy import Session
from triosmtp.server.service_limits import ServiceLimits
from triosmtp.server.statistics import Statistics
from triosmtp.workers.channel import Channel, ChannelClosedError
from triosmtp.workers.worker_messages import AdmitHandshake, CountPeer, HandshakeEnded, HandshakeStarted, UncountPeer

__all__ = ["WorkerLimits"]

_PARTS: Final = 4


class WorkerLimits(ServiceLimits):
    """The limits of a worker of a service with ``workers`` processes.

    A worker may begin a part of all handshakes without a question to the supervisor.  All workers together have a
    quarter of the limit in this way, and only the rest is counted exactly: the supervisor knows of a handshake at most
    10 ms later.  So a usual connection needs no answer of the supervisor.
    """

    def __init__(self, channel: Channel, max_handshakes: int, workers: int) -> None:
        super().__init__(Statistics(), max_handshakes)
        self._channel = channel
        self._part = _PARTS * workers
        self._started: dict[str, HandshakeStarted] = {}  # by session
        self._asked: set[str] = set()  # the sessions whose handshakes only the supervisor counts
        self.space.processes = workers

    async def admit_handshake(self, session: Session, settings: Settings) -> LimitReached | None:
        """Count a handshake of ``session``, or return the limit of the whole service that refuses it."""
        peer, per_peer = session.peer_address, settings.tls_handshakes_per_peer
        if per_peer is None and self.handshakes.is_within(peer, self._part):
            self.handshakes.count(session.id, peer)
            started = self._started[session.id] = HandshakeStarted(session.id, peer)
            self._channel.send(started)
            return None
        self._asked.add(session.id)
        try:
            return await self._channel.request(AdmitHandshake(session.id, peer, per_peer))
        except ChannelClosedError:
            return None

    def release_handshake(self, session: str) -> None:
        """Count the handshake of ``session`` out.  Without effect if none was admitted."""
        if session in self._asked:
            self._asked.discard(session)
            self._channel.send(HandshakeEnded(session))
        elif (started := self._started.pop(session, None)) is not None:
            self.handshakes.release(session)
            if not self._channel.withdraw(started):  # most handshakes end before it is sent
                self._channel.send(HandshakeEnded(session))

    async def count_peer(self, option: str, peer: PeerAddress | None, limit: tuple[int, float]) -> bool:
        """Count an event of ``peer`` for the whole service; return False if the limit is reached."""
        try:
            return await self._channel.request(CountPeer(option, peer, limit))
        except ChannelClosedError:
            return True

    def uncount_peer(self, option: str, peer: PeerAddress | None) -> None:
        """Undo one :meth:`count_peer`."""
        self._channel.send(UncountPeer(option, peer))
