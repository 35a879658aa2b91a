"""The gate before handshakes: how many may be under way at once, and how many one peer may begin within a time.

A handshake costs the server more than the client, and a stalled one holds memory until its deadline.
"""

from ipaddress import IPv4Address, IPv6Address

from triosmtp.server.peer_count import MAX_PEERS, PeerTable

__all__ = ["HandshakeGate"]


class HandshakeGate:
    """Lets handshakes in, and counts them."""

    __slots__ = ("_peers", "_under_way", "limit")

    def __init__(self, limit: int, *, max_peers: int = MAX_PEERS) -> None:
        self.limit = limit
        """How many may be under way at once; 0: any number."""
        self._under_way: set[str] = set()
        self._peers = PeerTable(max_peers)

    @property
    def under_way(self) -> int:
        """How many handshakes are under way."""
        return len(self._under_way)

    def enter(
        self,
        session: str,
        peer: IPv4Address | IPv6Address | None,
        per_peer: tuple[int, float] | None,
        now: float,
    ) -> str:
        """Count in the handshake of ``session``; where a limit is reached, give the name of its option, else ``""``.

        ``per_peer`` is how many handshakes a peer may begin in so many seconds, a window that opens with its first one;
        None is any number.  A peer without an address (on a Unix socket) has no such limit.
        """
        if self.limit and len(self._under_way) >= self.limit:
            return "TLS_Handshakes_Max"
        if per_peer is not None and peer is not None and not self._peers.count(peer, per_peer, now):
            return "TLS_Handshakes_Per_Peer"
        self._under_way.add(session)
        return ""

    def leave(self, session: str) -> None:
        """Count the handshake of ``session`` out, however it ended.  May be called where it was not let in."""
        self._under_way.discard(session)
