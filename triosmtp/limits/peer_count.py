"""What is counted of each peer: how much it began within a time, and how many connections it has now.

The tables are bounded.  Of more peers than fit, those that were heard of longest ago are forgotten: then they have a
little more than their share, and nobody else has less.
"""

from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

__all__ = ["PeerAddress", "PeerCounts", "PeerTable", "peer_key"]

PeerAddress: TypeAlias = IPv4Address | IPv6Address

MAX_PEERS: Final = 10_000
"""Peers that a table remembers."""


def peer_key(peer: PeerAddress) -> tuple[int, int]:
    """Give what counts as one peer: an IPv4 address, or the /64 of an IPv6 address, all of which one host may use."""
    value = int(peer)
    return (4, value) if peer.version == 4 else (6, value >> 64)


class PeerTable:
    """When each peer's window opened, and how much it began since: at most ``size`` peers."""

    __slots__ = ("_size", "_windows")

    def __init__(self, size: int = MAX_PEERS) -> None:
        self._size = size
        self._windows: OrderedDict[tuple[int, int], tuple[float, int]] = OrderedDict()

    def count(self, peer: PeerAddress, limit: tuple[int, float], now: float) -> bool:
        """Count one more, where that is within ``limit``: so many in so many seconds, from the first one on."""
        most, seconds = limit
        key = peer_key(peer)
        opened, begun = self._windows.get(key, (now, 0))
        if now - opened >= seconds:
            opened, begun = now, 0
        within = begun < most
        self._windows[key] = (opened, begun + within)
        self._windows.move_to_end(key)
        if len(self._windows) > self._size:
            self._windows.popitem(last=False)
        return within

    def uncount(self, peer: PeerAddress) -> None:
        """Take back one that :meth:`count` counted: it was not what the limit is about."""
        key = peer_key(peer)
        opened, begun = self._windows.get(key, (0.0, 0))
        if begun:
            self._windows[key] = (opened, begun - 1)


class PeerCounts:
    """All that is counted of the peers of one service.  A peer without an address, on a Unix socket, has no limits."""

    __slots__ = ("_connections", "_tables")

    def __init__(self) -> None:
        self._connections: dict[tuple[int, int], int] = {}  # bounded by the connections that there are
        self._tables: dict[str, PeerTable] = {}

    def count(self, what: str, peer: PeerAddress | None, limit: tuple[int, float] | None, now: float) -> bool:
        """Count one more ``what`` of ``peer``, where that is within ``limit``; None is any number."""
        if peer is None or limit is None:
            return True
        table = self._tables.get(what)
        if table is None:
            table = self._tables[what] = PeerTable()
        return table.count(peer, limit, now)

    def uncount(self, what: str, peer: PeerAddress | None) -> None:
        """Take back one ``what`` that :meth:`count` counted."""
        table = self._tables.get(what)
        if table is not None and peer is not None:
            table.uncount(peer)

    def connect(self, peer: PeerAddress | None, limit: int) -> bool:
        """Count a connection of ``peer`` in, where it has fewer than ``limit`` (0: any number)."""
        if peer is None:
            return True
        key = peer_key(peer)
        connections = self._connections.get(key, 0)
        if limit and connections >= limit:
            return False
        self._connections[key] = connections + 1
        return True

    def disconnect(self, peer: PeerAddress | None) -> None:
        """Count a connection out that :meth:`connect` counted in."""
        if peer is None:
            return
        key = peer_key(peer)
        connections = self._connections.pop(key, 0) - 1
        if connections > 0:
            self._connections[key] = connections
