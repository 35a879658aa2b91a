"""Look-ups in the DNS, by dnspython on Trio: bounded in time and number, cached for the time that the answer says."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import trio
from attrs import frozen

from triosmtp.errors import TrioSMTPError, needs_extra

if TYPE_CHECKING:
    import dns.asyncresolver

__all__ = ["DNSError", "DNSErrorCode", "DNSResolver", "Record", "import_dnspython"]

DNSErrorCode: TypeAlias = Literal["NXDOMAIN", "NODATA", "SERVFAIL", "TIMEOUT", "FORMERR"]

_CONCURRENT: Final = 256  # questions of a resolver at a time
_MAX_RECORDS: Final = 1000


def import_dnspython() -> None:
    """Import what look-ups need, at the start: the user who serves may not be permitted to read files of packages.

    :raises ImportError: if dnspython is missing; the text says what to install.
    """
    try:
        import dns.asyncbackend  # noqa: PLC0415 - the extra is imported only if look-ups are configured
        import dns.asyncresolver  # noqa: PLC0415 - as above
    except ImportError:
        raise ImportError(needs_extra("dnspython", "dns")) from None
    dns.asyncbackend.get_backend("trio")


class DNSError(TrioSMTPError):
    """A look-up without a result."""

    def __init__(self, name: str, kind: str, code: DNSErrorCode) -> None:
        self.code = code
        super().__init__(f"{name} {kind}: {code}")


@frozen(slots=True)
class Record:
    """One record: an address, a name without the final dot or a text, and the preference if it is an MX."""

    text: str
    preference: int | None = None


class DNSResolver:
    """A resolver with one cache of ``answers`` at most, those that there is no record included.

    ``servers`` are addresses and ports, tried in order; without them, those of /etc/resolv.conf are asked.
    """

    def __init__(self, servers: Iterable[tuple[str, int]] = (), *, answers: int = 20_000) -> None:
        self._servers = tuple(servers)
        self._answers = answers
        self._resolver: dns.asyncresolver.Resolver | None = None
        self._limiter = trio.CapacityLimiter(_CONCURRENT)

    async def look_up(self, name: str, kind: str, seconds: float) -> list[Record]:
        """Return the records of ``name``: those with a preference by it, the others as they came.

        ``kind`` is A, AAAA, MX, NS, PTR or TXT.  ``seconds`` is the time for all.

        :raises DNSError: if there is no record, or no answer.
        :raises ImportError: if dnspython is missing.
        """
        import dns.exception  # noqa: PLC0415 - the package is imported at the first look-up
        import dns.resolver  # noqa: PLC0415

        code: DNSErrorCode = "TIMEOUT"
        with trio.move_on_after(seconds):
            async with self._limiter:
                try:
                    answer = await self._open().resolve(name, kind, search=False, lifetime=seconds)
                except dns.resolver.NXDOMAIN:
                    code = "NXDOMAIN"
                except dns.resolver.NoAnswer:
                    code = "NODATA"
                except dns.exception.Timeout:
                    code = "TIMEOUT"
                except dns.resolver.NoNameservers:
                    code = "SERVFAIL"
                except (dns.exception.DNSException, OSError, ValueError):  # a name that is none, no server
                    code = "FORMERR"
                else:
                    records = [_record(each, kind) for each in list(answer)[:_MAX_RECORDS]]
                    return sorted(records, key=lambda record: record.preference or 0)
        raise DNSError(name, kind, code)

    def _open(self) -> "dns.asyncresolver.Resolver":
        if self._resolver is None:
            import dns.asyncresolver  # noqa: PLC0415
            import dns.nameserver  # noqa: PLC0415
            import dns.resolver  # noqa: PLC0415

            resolver = dns.asyncresolver.Resolver(configure=not self._servers)
            if self._servers:
                resolver.nameservers = [dns.nameserver.Do53Nameserver(*server) for server in self._servers]
            resolver.cache = dns.resolver.LRUCache(self._answers)
            self._resolver = resolver
        return self._resolver


def _record(data: Any, kind: str) -> Record:
    if kind == "TXT":
        return Record(b"".join(data.strings).decode("utf-8", "surrogateescape"))
    if kind == "MX":
        return Record(data.exchange.to_text(omit_final_dot=True), data.preference)
    return Record(data.address if kind in {"A", "AAAA"} else data.target.to_text(omit_final_dot=True))
