"""The gate before handshakes: how many may be under way at once, and how many one peer may begin within a time.

A handshake costs the server more than the client, and a stalled one holds its place until its deadline.  Who may hold
all places takes TLS from everybody: those who are refused go on in plaintext.
"""

from collections import Counter
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from triosmtp.limits.peer_count import MAX_PEERS, PeerTable, peer_key

__all__ = ["HandshakeLimiter"]

_SHARE: Final = 10
"""One peer has a tenth of all places, …"""
_LEAST_SHARE: Final = 10
"""… and at least so many."""


class HandshakeLimiter:
    """Lets handshakes in, and counts them."""

    __slots__ = ("_peers", "_under_way", "_under_way_of", "limit")

    def __init__(self, limit: int, *, max_peers: int = MAX_PEERS) -> None:
        self.limit = limit
        """How many may be under way at once; 0: any number, in all and of one peer."""
        self._under_way: dict[str, tuple[int, int] | None] = {}  # each session's peer
        self._under_way_of: Counter[tuple[int, int]] = Counter()  # bounded by the sessions that there are
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
    ) -> str:
        """Count in the handshake of ``session``; where a limit is reached, give the name of its option, else ``""``.

        ``per_peer`` is how many handshakes a peer may begin in so many seconds, a window that opens with its first one;
        None is any number.  A peer without an address (on a Unix socket) has no limit of its own.  Of clients behind a
        proxy each is a peer: ``peer`` is the address that the proxy announced.
        """
        key = None if peer is None else peer_key(peer)
        if self.limit:
            if len(self._under_way) >= self.limit:
                return "TLS_Handshakes_Max"
            if key is not None and self._under_way_of[key] >= max(self.limit // _SHARE, _LEAST_SHARE):
                return "TLS_Handshakes_Max"
        if per_peer is not None and peer is not None and not self._peers.count(peer, per_peer, now):
            return "TLS_Handshakes_Per_Peer"
        self.release(session)
        self._under_way[session] = key
        if key is not None:
            self._under_way_of[key] += 1
        return ""

    def release(self, session: str) -> None:
        """Count the handshake of ``session`` out, however it ended.  May be called where it was not let in."""
        key = self._under_way.pop(session, None)
        if key is not None:
            self._under_way_of[key] -= 1
            if not self._under_way_of[key]:
                del self._under_way_of[key]
