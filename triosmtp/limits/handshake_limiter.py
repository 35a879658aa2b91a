"""Limit TLS handshakes: those at once, and those that one peer begins within a time.

A handshake costs the server more than the client, and a stalled one keeps its place until its time-out.  A peer that
could use all places would deny TLS to everybody: clients that are refused continue in plaintext.
"""

from ipaddress import IPv4Address, IPv6Address
from typing import Final

from triosmtp.limits.limit_reached import LimitReached
from triosmtp.limits.peer_count import MAX_PEERS, PeerTable, peer_key

__all__ = ["HandshakeLimiter"]

_SHARE: Final = 10
"""One peer may use a tenth of the places,"""
_MIN_SHARE: Final = 10
"""and at least this many."""


class HandshakeLimiter:
    """Admits handshakes and counts them."""

    __slots__ = ("_peers", "_under_way", "_under_way_of", "limit")

    def __init__(self, limit: int, *, max_peers: int = MAX_PEERS) -> None:
        self.limit = limit
        """How many handshakes may be under way at once; 0 is any number, in total and of one peer."""
        self._under_way: dict[str, tuple[int, int] | None] = {}  # the peer of each session
        self._under_way_of: dict[tuple[int, int], int] = {}  # bounded by the number of sessions
        self._peers = PeerTable(max_peers)

    @property
    def under_way(self) -> int:
        """How many handshakes are under way."""
        return len(self._under_way)

    def admit(
        self,
        session: str,
        peer: IPv4Address | IPv6Address | None,
        per_peer: tuple[int, float] | None,
        now: float,
    ) -> LimitReached | None:
        """Count a handshake of ``session``, or return the limit that refuses it.

        ``per_peer`` is how many handshakes a peer may begin in how many seconds; None is any number.  The time begins
        with the first one.  A peer without an address (on a Unix socket) has no limit of its own.  Behind a proxy,
        ``peer`` is the client that the proxy announced.
        """
        key = None if peer is None else peer_key(peer)
        if self.limit and not self._is_within(key, 1):
            return LimitReached.TLS_HANDSHAKES_MAX
        if per_peer is not None and peer is not None and not self._peers.count(peer, per_peer, now):
            return LimitReached.TLS_HANDSHAKES_PER_PEER
        self._count(session, key)
        return None

    def is_within(self, peer: IPv4Address | IPv6Address | None, part: int = 1) -> bool:
        """Return whether one more handshake of ``peer`` is within ``1 / part`` of the limits of those at once."""
        return not self.limit or self._is_within(None if peer is None else peer_key(peer), part)

    def _is_within(self, key: tuple[int, int] | None, part: int) -> bool:
        if len(self._under_way) >= self.limit // part:
            return False
        return key is None or self._under_way_of.get(key, 0) < max(self.limit // _SHARE, _MIN_SHARE) // part

    def count(self, session: str, peer: IPv4Address | IPv6Address | None) -> None:
        """Count a handshake of ``session`` without limits."""
        self._count(session, None if peer is None else peer_key(peer))

    def _count(self, session: str, key: tuple[int, int] | None) -> None:
        if session in self._under_way:
            self.release(session)
        self._under_way[session] = key
        if key is not None:
            self._under_way_of[key] = self._under_way_of.get(key, 0) + 1

    def release(self, session: str) -> None:
        """Count the handshake of ``session`` out.  Without effect if none was admitted."""
        key = self._under_way.pop(session, None)
        if key is not None:
            others = self._under_way_of[key] - 1
            if others:
                self._under_way_of[key] = others
            else:
                del self._under_way_of[key]
