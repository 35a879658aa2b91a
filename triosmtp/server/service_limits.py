"""The limits of one server, for all of its sessions together and for each peer."""

import sys
from typing import TYPE_CHECKING, Final

import trio

from triosmtp.config import Settings
from triosmtp.limits.fair_queue import FairQueue
from triosmtp.limits.handshake_limiter import HandshakeLimiter
from triosmtp.limits.large_flight_limiter import LargeFlightLimiter
from triosmtp.limits.limit_reached import LimitReached
from triosmtp.limits.peer_count import PeerAddress, PeerCounts
from triosmtp.limits.spool_space import SpoolSpace
from triosmtp.message.spool import THREADS
from triosmtp.policy import Session
from triosmtp.server.admission import Admission
from triosmtp.server.statistics import Statistics

if TYPE_CHECKING:
    from triosmtp.limits.shared_counts import SharedCounts

__all__ = ["ServiceLimits"]

_HANDSHAKES: Final = LimitReached.TLS_HANDSHAKES_PER_PEER.value
_HASHING: Final = 2
"""The number of attempts to authenticate that are computed at once, in each process."""
_HASHING_WAITING: Final = 64
_HASHING_WAITING_PER_PEER: Final = 4
_RELAYED: Final = 64
"""The number of attempts of which an Auth_Service owes an answer at once, in each process; as many more wait."""
_RELAYED_PER_PEER: Final = 8


class ServiceLimits:
    """The limits of one server."""

    def __init__(self, statistics: Statistics, max_handshakes: int) -> None:
        self.statistics = statistics
        self.peers = PeerCounts()
        """The counters of each peer."""
        self.admission = Admission(statistics, self.peers)
        self.shared: SharedCounts | None = None
        """The counts of all nodes; None without Limits_Store, and in a worker."""
        self.handshakes = HandshakeLimiter(max_handshakes)
        self.flights = LargeFlightLimiter()
        """Large flights of handshakes, which are verified in threads."""
        self.hashing = FairQueue(_HASHING, waiting=_HASHING_WAITING, waiting_per_peer=_HASHING_WAITING_PER_PEER)
        """Attempts to authenticate that are computed in threads: each uses a processor, and argon2 tens of MB."""
        self.auth_service = FairQueue(
            _RELAYED, waiting=_RELAYED, waiting_per_peer=_HASHING_WAITING_PER_PEER, at_once_per_peer=_RELAYED_PER_PEER
        )
        """Attempts to authenticate of which the Auth_Service owes an answer."""
        self.spooling = FairQueue(THREADS, waiting=sys.maxsize, waiting_per_peer=sys.maxsize)
        """Message bodies that are written to spool files.  A session waits for one at most: that is the bound."""
        self.space = SpoolSpace()
        """The octets in spool files."""

    async def admit_handshake(self, session: Session, settings: Settings) -> LimitReached | None:
        """Count a handshake of ``session``, or return the limit that refuses it."""
        return await self.admit_handshake_of(session.id, session.peer_address, settings.tls_handshakes_per_peer)

    async def admit_handshake_of(
        self, session: str, peer: PeerAddress | None, per_peer: tuple[int, float] | None
    ) -> LimitReached | None:
        """Count a handshake of ``peer`` in the session with this id, or return the limit that refuses it."""
        counted = None
        if self.shared is not None and peer is not None and per_peer is not None:
            counted = await self.shared.count(_HANDSHAKES, peer, per_peer)
            if counted is False:
                return LimitReached.TLS_HANDSHAKES_PER_PEER
        return self.handshakes.admit(session, peer, None if counted else per_peer, trio.current_time())

    def release_handshake(self, session: str) -> None:
        """Count the handshake of ``session`` out.  Without effect if none was admitted."""
        self.handshakes.release(session)

    async def count_peer(self, option: str, peer: PeerAddress | None, limit: tuple[int, float]) -> bool:
        """Count one more event of ``peer`` for the limit ``option``; return False if the limit is reached."""
        if self.shared is not None and peer is not None:
            counted = await self.shared.count(option, peer, limit)
            if counted is not None:
                return counted
        return self.peers.count(option, peer, limit, trio.current_time())

    def uncount_peer(self, option: str, peer: PeerAddress | None) -> None:
        """Undo one :meth:`count_peer`."""
        if self.shared is not None and peer is not None and self.shared.available:
            self.shared.uncount(option, peer)
        else:
            self.peers.uncount(option, peer)
