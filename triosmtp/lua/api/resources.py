"""What scripts share within a process: counters, networks, look-ups, locks, and what they may read.

A reload loads all scripts again, but their counters go on: :meth:`Resources.reloaded` makes the next set's resources.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from attrs import Factory, define, field

from triosmtp.lua.api.cidr_map import CidrMap
from triosmtp.lua.api.dns_lookup import DNSLookups
from triosmtp.lua.api.inbound_audit import InboundAudit
from triosmtp.lua.api.lock_table import LockTable
from triosmtp.lua.api.open_sessions import OpenSessions
from triosmtp.lua.api.rate_counters import GaugeCache, NamedCounters, Series
from triosmtp.policy import Session
from triosmtp.smtp import Address

if TYPE_CHECKING:
    from triosmtp.http_client.http_client import HTTPClient

__all__ = ["Judge", "Resources"]

_CONNECTIONS: Final = 100  # to other servers by http.client

Judge: TypeAlias = Callable[[Session, Address], Awaitable[str]]
"""Returns why a message may not have a recipient that a script adds; ``""`` if it may."""


async def _accepted(_session: Session, _address: Address) -> str:
    return ""


@define(slots=True, eq=False, kw_only=True)
class Resources:
    """The resources of one set of scripts."""

    folders: tuple[Path, ...] = ()
    """Scripts read files of these folders only."""
    watch: Callable[[OpenSessions], None] = field(default=lambda _sessions: None)
    """Begins to count the sessions of the server."""
    judge: Judge = _accepted
    option: Callable[[str], tuple[object, str] | None] = field(default=lambda _name: None)
    """Returns the value of a global option, and its text; None if there is none."""
    observe: Callable[[InboundAudit], None] = field(default=lambda _audit: None)
    """Begins to pass the events of the server."""
    lookups: DNSLookups = Factory(DNSLookups)
    series: dict[bytes, Series] = Factory(dict)
    gauges: dict[bytes, GaugeCache] = Factory(dict)
    counters: NamedCounters = Factory(NamedCounters)
    locks: LockTable = Factory(LockTable)
    audit: InboundAudit = Factory(InboundAudit)
    sessions: OpenSessions = Factory(OpenSessions)
    networks: dict[bytes, CidrMap] = Factory(dict)
    _http: "HTTPClient | None" = field(default=None, init=False)

    def http(self) -> "HTTPClient":
        """Return the client for requests of scripts.

        :raises ImportError: if httpx is missing.
        """
        if self._http is None:
            from triosmtp.http_client.http_client import HTTPClient  # noqa: PLC0415 - only if scripts make requests
            from triosmtp.http_client.tls_files import TLSFiles  # noqa: PLC0415 - as above

            self._http = HTTPClient(TLSFiles(), connections=_CONNECTIONS, user_agent="triosmtp", connect_seconds=10.0)
        return self._http

    async def aclose(self) -> None:
        """Close the connections of scripts to other servers."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    def reloaded(self, **changes: object) -> "Resources":
        """Return the resources of the next set: the same counters, no networks, and what ``changes`` names."""
        counting = "lookups", "series", "gauges", "counters", "locks", "audit", "sessions"
        reading = "folders", "watch", "judge", "option", "observe"
        kept = {name: getattr(self, name) for name in (*counting, *reading)}
        return Resources(**{**kept, **changes})

    def readable(self, path: str) -> Path:
        """Return the real path of a file that scripts may read.

        :raises ValueError: if it is in none of the folders.
        """
        written = Path(path)
        candidates = [written] if written.is_absolute() else [folder / written for folder in self.folders]
        for candidate in candidates:
            real = candidate.resolve()
            if any(real.is_relative_to(folder.resolve()) for folder in self.folders) and real.exists():
                return real
        for candidate in candidates:
            if any(candidate.resolve().is_relative_to(folder.resolve()) for folder in self.folders):
                return candidate.resolve()
        raise ValueError(f"{path}: not in a folder that scripts may read")
