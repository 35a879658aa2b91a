"""``msys.dnsLookup``: the resolvers of scripts.  A session that looks up a name waits; the others go on."""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final

from triosmtp.dns_client import DNSError, DNSResolver, Record

__all__ = ["RECORD_TYPES", "DNSLookups"]

RECORD_TYPES: Final = ("A", "AAAA", "TXT", "MX", "PTR", "NS")
_SECONDS: Final = 10.0
_CACHED: Final = 1000  # answers of each resolver
_SERVERS: Final = 16  # other servers that scripts name


class DNSLookups:
    """The resolvers of a process: that of DNS_Servers (``servers``), and those of servers that scripts name."""

    def __init__(self, servers: Sequence[tuple[str, int]] = ()) -> None:
        self._servers = tuple(servers)
        self._default = DNSResolver(servers, answers=_CACHED)
        self._others: dict[str, DNSResolver] = {}

    def with_servers(self, servers: Sequence[tuple[str, int]]) -> "DNSLookups":
        """Return these look-ups with their cache if they ask ``servers``, else new ones."""
        return self if tuple(servers) == self._servers else DNSLookups(servers)

    async def look_up(self, name: str, kind: str, server: str = "") -> list[Record]:
        """Return the records of a name: those with a preference by it, the others as they came.

        ``kind`` is one of :data:`RECORD_TYPES`.  PTR takes an address, too.  ``server`` is an address, perhaps with
        ``:port`` (an IPv6 address is in brackets then).

        :raises DNSError: if there is none.
        :raises ImportError: if dnspython is missing.
        """
        try:
            resolver = self._resolver(server) if server else self._default
        except ValueError:
            raise DNSError(name, kind, "FORMERR") from None
        return await resolver.look_up(_question(name, kind), kind, _SECONDS)

    def _resolver(self, server: str) -> DNSResolver:
        found = self._others.get(server)
        if found is None:
            found = DNSResolver([_server(server)], answers=_CACHED)
            if len(self._others) >= _SERVERS:
                self._others.pop(next(iter(self._others)))
            self._others[server] = found
        return found


def _server(text: str) -> tuple[str, int]:
    """Return address and port of a server.

    :raises ValueError: if it is not an address.
    """
    address, port = text, "53"
    if text.startswith("["):
        address, _, port = text[1:].partition("]:")
        address, port = address.removesuffix("]"), port or "53"
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    return str(ip_address(address)), int(port)


def _question(name: str, kind: str) -> str:
    if kind == "PTR":
        try:
            return ip_address(name).reverse_pointer
        except ValueError:
            return name
    return name
