"""The open sessions by network, for ``inbound_session_count``: counted as they begin and end, not looked for."""

from collections import Counter
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, TypeAlias

from triosmtp.event import Connected, Disconnected, PeerAnnounced, ServerEvent
from triosmtp.lua.api.inbound_audit import address_of_peer

__all__ = ["SESSION_EVENTS", "OpenSessions"]

_MAX_TABLES: Final = 16

Address: TypeAlias = IPv4Address | IPv6Address | None

SESSION_EVENTS: Final = (Connected, PeerAnnounced, Disconnected)
"""The events that change which sessions are open."""


class OpenSessions:
    """The sessions of a process.  It is an observer of the server's events once :meth:`begin` was called."""

    def __init__(self) -> None:
        self.is_counting = False
        self._addresses: dict[str, Address] = {}  # by the id of the session
        self._tables: dict[tuple[int, int], Counter[int]] = {}  # by version of IP and length of the prefix

    def begin(self, sessions: Iterable[tuple[str, Address]]) -> None:
        """Count these sessions, and those of later events."""
        self.is_counting = True
        for session, address in sessions:
            self._set(session, address)

    def __call__(self, event: ServerEvent) -> None:
        """Count a session that begins, that is another client's now, or that ends."""
        match event:
            case Connected() | PeerAnnounced():
                self._set(event.session.id, address_of_peer(event.session.peer))
            case Disconnected():
                self._remove(event.session.id)

    def __len__(self) -> int:
        """Return the number of sessions."""
        return len(self._addresses)

    def count(self, network: IPv4Network | IPv6Network) -> int:
        """Return the number of sessions from a network."""
        key = network.version, network.prefixlen
        table = self._tables.get(key)
        if table is None:
            if len(self._tables) >= _MAX_TABLES:
                self._tables.pop(next(iter(self._tables)))
            table = self._tables[key] = Counter()
            for address in self._addresses.values():
                if address is not None and address.version == network.version:
                    table[_prefix(address, network.prefixlen)] += 1
        return table[_prefix(network.network_address, network.prefixlen)]

    def _set(self, session: str, address: Address) -> None:
        self._remove(session)
        self._addresses[session] = address
        self._add(address, 1)

    def _remove(self, session: str) -> None:
        self._add(self._addresses.pop(session, None), -1)

    def _add(self, address: Address, by: int) -> None:
        if address is None:
            return
        for (version, length), table in self._tables.items():
            if version == address.version:
                prefix = _prefix(address, length)
                table[prefix] += by
                if not table[prefix]:
                    del table[prefix]


def _prefix(address: IPv4Address | IPv6Address, length: int) -> int:
    return int(address) >> (address.max_prefixlen - length)
