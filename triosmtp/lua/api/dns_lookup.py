"""``msys.dnsLookup``: DNS by dnspython on Trio.  The extra ``dns`` is imported at the first look-up.

A session that looks up a name waits; the others go on.
"""

from ipaddress import ip_address
from types import ModuleType
from typing import Any, Final

import trio
from attrs import frozen

from triosmtp.errors import TrioSMTPError

__all__ = ["RECORD_TYPES", "DNSError", "DNSLookups", "Record"]

RECORD_TYPES: Final = ("A", "AAAA", "TXT", "MX", "PTR", "NS")
_SECONDS: Final = 10.0
_CACHED: Final = 1000  # answers
_SERVERS: Final = 16  # other servers that scripts name
_CONCURRENT: Final = 256
_MAX_RECORDS: Final = 1000


class DNSError(TrioSMTPError):
    """A look-up without a result; its text is NXDOMAIN, NODATA, SERVFAIL, TIMEOUT or FORMERR."""


@frozen(slots=True)
class Record:
    """One record: its text, and its preference if it has one."""

    text: bytes
    preference: int | None = None


class DNSLookups:
    """The resolvers of a process: that of the system, and those of servers that scripts name."""

    def __init__(self) -> None:
        self._resolvers: dict[str, Any] = {}
        self._limiter = trio.CapacityLimiter(_CONCURRENT)

    async def look_up(self, name: str, kind: str, server: str = "") -> list[Record]:
        """Return the records of a name: those with a preference by it, the others as they came.

        ``kind`` is one of :data:`RECORD_TYPES`.  PTR takes an address, too.  ``server`` is an address, perhaps with
        ``:port`` (an IPv6 address is in brackets then).

        :raises DNSError: if there is none.
        :raises ImportError: if dnspython is missing.
        """
        import dns.exception  # noqa: PLC0415 - the extra is imported if a script needs it
        import dns.resolver  # noqa: PLC0415

        async with self._limiter:
            try:
                resolver = self._resolver(dns.resolver, server)
                answer = await resolver.resolve(_question(name, kind), kind, search=False, lifetime=_SECONDS)
            except dns.resolver.NXDOMAIN:
                raise DNSError("NXDOMAIN") from None
            except dns.resolver.NoAnswer:
                raise DNSError("NODATA") from None
            except dns.exception.Timeout:
                raise DNSError("TIMEOUT") from None
            except dns.resolver.NoNameservers:
                raise DNSError("SERVFAIL") from None
            except (dns.exception.DNSException, ValueError, OSError):  # a name that is none, no server
                raise DNSError("FORMERR") from None
        records = [_record(data, kind) for data in list(answer)[:_MAX_RECORDS]]
        return sorted(records, key=lambda each: each.preference or 0) if kind == "MX" else records

    def _resolver(self, module: ModuleType, server: str) -> Any:
        import dns.asyncresolver  # noqa: PLC0415

        found = self._resolvers.get(server)
        if found is None:
            found = dns.asyncresolver.Resolver(configure=not server)
            if server:
                address, port = _server(server)
                found.nameservers, found.port = [address], port
            found.cache = module.LRUCache(_CACHED)
            while len(self._resolvers) > _SERVERS:
                self._resolvers.pop(next(iter(self._resolvers)))
            self._resolvers[server] = found
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


def _question(name: str, kind: str) -> Any:
    if kind == "PTR":
        try:
            return ip_address(name).reverse_pointer
        except ValueError:
            return name
    return name


def _record(data: Any, kind: str) -> Record:
    if kind == "TXT":
        return Record(b"".join(data.strings))
    if kind == "MX":
        return Record(_host(data.exchange), data.preference)
    return Record(data.address.encode("ascii") if kind in {"A", "AAAA"} else _host(data.target))


def _host(name: Any) -> bytes:
    text: str = name.to_text(omit_final_dot=True)
    return text.encode("ascii", "replace")
