"""Count events and connections by peer.

The tables are bounded.  If more peers connect than a table holds, it drops the peers that were counted longest ago.  A
dropped peer starts again at zero, so it can exceed its limit.  The counts of all other peers stay exact.
"""

from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

__all__ = ["MAX_PEERS", "PeerAddress", "PeerCounts", "PeerTable", "peer_key"]

PeerAddress: TypeAlias = IPv4Address | IPv6Address

MAX_PEERS: Final = 10_000
"""The number of peers that a table holds."""


def peer_key(peer: PeerAddress) -> tuple[int, int]:
    """Return what counts as one peer: an IPv4 address, or the /64 of an IPv6 address, which one host can use."""
    value = int(peer)
    return (4, value) if peer.version == 4 else (6, value >> 64)


class PeerTable:
    """The time window of each peer and its number of events in it, for at most ``size`` peers."""

    __slots__ = ("_size", "_windows")

    def __init__(self, size: int = MAX_PEERS) -> None:
        self._size = size
        self._windows: OrderedDict[tuple[int, int], tuple[float, int]] = OrderedDict()

    def count(self, peer: PeerAddress, limit: tuple[int, float], now: float) -> bool:
        """Count an event of ``peer``, or return False if ``limit`` is reached.

        ``limit`` is a number of events and the seconds in which they may happen, from the first one on.
        """
        most, seconds = limit
        key = peer_key(peer)
        opened, events = self._windows.get(key, (now, 0))
        if now - opened >= seconds:
            opened, events = now, 0
        is_within = events < most
        self._windows[key] = (opened, events + is_within)
        self._windows.move_to_end(key)
        if len(self._windows) > self._size:
            self._windows.popitem(last=False)
        return is_within

    def uncount(self, peer: PeerAddress) -> None:
        """Undo one :meth:`count`, for an event that the limit does not concern."""
        key = peer_key(peer)
        opened, events = self._windows.get(key, (0.0, 0))
        if events:
            self._windows[key] = (opened, events - 1)


class PeerCounts:
    """All counters of the peers of one service.  A peer without an address, on a Unix socket, has no limits."""

    __slots__ = ("_connections", "_tables")

    def __init__(self) -> None:
        self._connections: dict[tuple[int, int], int] = {}  # bounded by the number of connections
        self._tables: dict[str, PeerTable] = {}

    def count(self, option: str, peer: PeerAddress | None, limit: tuple[int, float] | None, now: float) -> bool:
        """Count an event of ``peer`` for the limit ``option``, or return False if it is reached.  None is no limit."""
        if peer is None or limit is None:
            return True
        table = self._tables.get(option)
        if table is None:
            table = self._tables[option] = PeerTable()
        return table.count(peer, limit, now)

    def uncount(self, option: str, peer: PeerAddress | None) -> None:
        """Undo one :meth:`count`."""
        table = self._tables.get(option)
        if table is not None and peer is not None:
            table.uncount(peer)

    def connect(self, key: tuple[int, int], limit: int) -> bool:
        """Count a connection of the peer with ``key``, or return False if it has ``limit`` (0: no limit)."""
        connections = self._connections.get(key, 0)
        if limit and connections >= limit:
            return False
        self._connections[key] = connections + 1
        return True

    def disconnect(self, key: tuple[int, int]) -> None:
        """Undo one :meth:`connect`."""
        connections = self._connections[key] - 1
        if connections:
            self._connections[key] = connections
        else:
            del self._connections[key]
