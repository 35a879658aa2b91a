"""The gate before handshakes: how many may be under way at once, and how many one peer may begin within a time.

A handshake costs the server more than the client, and a stalled one holds memory until its deadline.
"""

from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Address
from typing import Final

__all__ = ["HandshakeGate"]

_MAX_PEERS: Final = 10_000
"""Peers that are remembered; of more, those that were heard of longest ago are forgotten."""


class HandshakeGate:
    """Lets handshakes in, and counts them."""

    __slots__ = ("_peers", "_under_way", "limit")

    def __init__(self, limit: int, *, max_peers: int = _MAX_PEERS) -> None:
        self.limit = limit
        """How many may be under way at once; 0: any number."""
        self._under_way: set[str] = set()
        self._peers = _PeerTable(max_peers)

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
        if per_peer is not None and peer is not None and not self._peers.count(_network(peer), per_peer, now):
            return "TLS_Handshakes_Per_Peer"
        self._under_way.add(session)
        return ""

    def leave(self, session: str) -> None:
        """Count the handshake of ``session`` out, however it ended.  May be called where it was not let in."""
        self._under_way.discard(session)


class _PeerTable:
    """When each peer's window opened, and how many handshakes it began since: at most ``size`` peers."""

    __slots__ = ("_size", "_windows")

    def __init__(self, size: int) -> None:
        self._size = size
        self._windows: OrderedDict[tuple[int, int], tuple[float, int]] = OrderedDict()

    def count(self, peer: tuple[int, int], limit: tuple[int, float], now: float) -> bool:
        """Count one more, where that is within the limit."""
        most, seconds = limit
        opened, begun = self._windows.get(peer, (now, 0))
        if now - opened >= seconds:
            opened, begun = now, 0
        within = begun < most
        self._windows[peer] = (opened, begun + within)
        self._windows.move_to_end(peer)
        if len(self._windows) > self._size:
            self._windows.popitem(last=False)
        return within


def _network(peer: IPv4Address | IPv6Address) -> tuple[int, int]:
    """Give what counts as one peer: an IPv4 address, or the /64 of an IPv6 address, all of which one host may use."""
    value = int(peer)
    return (4, value) if peer.version == 4 else (6, value >> 64)
