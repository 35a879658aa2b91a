"""Look-ups in the DNS, by dnspython on Trio: bounded in time and number, cached for the time that the answer says."""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import trio

from triosmtp.errors import TrioSMTPError

if TYPE_CHECKING:
    import dns.asyncresolver

__all__ = ["DNSError", "DNSResolver", "RecordType", "missing_package"]

RecordType: TypeAlias = Literal["A", "AAAA", "PTR"]

_CACHED: Final = 20_000  # answers, those that there is none included
_CONCURRENT: Final = 256
_MAX_RECORDS: Final = 100


def missing_package() -> str:
    """Return what to install if the package for look-ups is missing; else ``""``."""
    return "" if find_spec("dns") else "needs dnspython: pip install 'triosmtp[dns]'"


class DNSError(TrioSMTPError):
    """A look-up without an answer.  ``exists`` is False if the DNS says that there is no such record."""

    def __init__(self, reason: str, *, exists: bool | None) -> None:
        self.exists = exists
        super().__init__(reason)


class DNSResolver:
    """A resolver with one cache, for all sessions of a process.

    ``servers`` are addresses and ports, tried in order; without them, those of /etc/resolv.conf are asked.
    """

    def __init__(self, servers: Iterable[tuple[str, int]] = ()) -> None:
        self._servers = tuple(servers)
        self._resolver: dns.asyncresolver.Resolver | None = None
        self._limiter = trio.CapacityLimiter(_CONCURRENT)

    async def look_up(self, name: str, kind: RecordType, seconds: float) -> list[str]:
        """Return the records of ``name``: addresses, or names without the final dot.  ``seconds`` is the time for all.

        :raises DNSError: if there is no record, or no answer.
        """
        import dns.exception  # noqa: PLC0415 - the package is imported at the first look-up
        import dns.resolver  # noqa: PLC0415

        with trio.move_on_after(seconds):
            async with self._limiter:
                try:
                    answer = await self._open().resolve(name, kind, search=False, lifetime=seconds)
                except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
                    raise DNSError(f"{name}: no {kind} record", exists=False) from None
                except dns.exception.Timeout:
                    raise DNSError(f"{name}: no answer in {seconds:g} s", exists=None) from None
                except (dns.exception.DNSException, OSError, ValueError) as error:
                    raise DNSError(f"{name}: {type(error).__name__}", exists=None) from None
                return [_text(record, kind) for record in list(answer)[:_MAX_RECORDS]]
        raise DNSError(f"{name}: no answer in {seconds:g} s", exists=None)

    def _open(self) -> "dns.asyncresolver.Resolver":
        if self._resolver is None:
            import dns.asyncresolver  # noqa: PLC0415
            import dns.nameserver  # noqa: PLC0415
            import dns.resolver  # noqa: PLC0415

            resolver = dns.asyncresolver.Resolver(configure=not self._servers)
            if self._servers:
                resolver.nameservers = [dns.nameserver.Do53Nameserver(*server) for server in self._servers]
            resolver.cache = dns.resolver.LRUCache(_CACHED)
            self._resolver = resolver
        return self._resolver


def _text(record: Any, kind: RecordType) -> str:
    text: str = record.target.to_text(omit_final_dot=True) if kind == "PTR" else record.address
    return text
