"""The limits in a worker: the supervisor counts what is limited for all workers together."""

from triosmtp.config import Settings
from triosmtp.limits.limit_reached import LimitReached
from triosmtp.limits.peer_count import PeerAddress
from triosmtp.policy import Session
from triosmtp.server.service_limits import ServiceLimits
from triosmtp.server.statistics import Statistics
from triosmtp.workers.channel import Channel, ChannelClosedError
from triosmtp.workers.protocol import AdmitHandshake, CountPeer, HandshakeEnded, HandshakeStarted, UncountPeer

__all__ = ["WorkerLimits"]


class WorkerLimits(ServiceLimits):
    """The limits of a worker, for a service that its supervisor divides between ``workers`` processes."""

    def __init__(self, channel: Channel, max_handshakes: int, workers: int) -> None:
        super().__init__(Statistics(), max_handshakes)
        self._channel = channel
        self._handshakes: set[str] = set()
        self.space.processes = workers

    async def admit_handshake(self, session: Session, settings: Settings) -> LimitReached | None:
        """Count a handshake of ``session``, or return the limit of the whole service that refuses it."""
        per_peer = settings.tls_handshakes_per_peer
        self._handshakes.add(session.id)
        if not self.handshakes.limit and per_peer is None:
            self._channel.send(HandshakeStarted(session.id))  # it is counted, but no limit can refuse it
            return None
        try:
            return await self._channel.request(AdmitHandshake(session.id, session.peer_address, per_peer))
        except ChannelClosedError:
            return None

    def release_handshake(self, session: str) -> None:
        """Count the handshake of ``session`` out.  Without effect if none was admitted."""
        if session in self._handshakes:
            self._handshakes.discard(session)
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
