"""``msys.audit``: how often a network connected, sent messages, or was refused, within windows of time.

A monitor such as ``60,1`` is one window of 60 seconds.  It begins to count when a script first names it.
"""

import time
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, Literal, TypeAlias

from triosmtp.errors import TrioSMTPError
from triosmtp.event import Connected, MessageAccepted, MessageRefused, Refused, ServerEvent
from triosmtp.lua.api.rate_counters import CounterError, Series

__all__ = ["KINDS", "AuditError", "InboundAudit", "Kind", "address_of_peer"]

_MAX_MONITORS: Final = 16
_MAX_ADDRESSES: Final = 10_000  # of one monitor: a network is looked for among all of them

Kind: TypeAlias = Literal["connections", "receptions", "rejections"]
Network: TypeAlias = IPv4Network | IPv6Network

KINDS: Final[dict[type, Kind]] = {
    Connected: "connections",
    MessageAccepted: "receptions",
    MessageRefused: "rejections",
    Refused: "rejections",
}
"""The count of each event of the server."""


class AuditError(TrioSMTPError, ValueError):
    """A monitor that cannot be used."""


@lru_cache(maxsize=4096)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def address_of_peer(peer: str) -> IPv4Address | IPv6Address | None:
    """Return the address of ``192.0.2.7:53211`` or ``[2001:db8::7]:53211``; None if it has none."""
    return _address(peer[1:].partition("]")[0] if peer.startswith("[") else peer.rpartition(":")[0])


class InboundAudit:
    """The counts of each monitor.  It is an observer of the server's events."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._monitors: dict[str, dict[Kind, Series]] = {}

    @property
    def is_used(self) -> bool:
        """Whether a script has named a monitor."""
        return bool(self._monitors)

    def open(self, monitor: str) -> dict[Kind, Series]:
        """Return the counts of a monitor, which begins to count if it is new.

        :raises AuditError: if it is not ``SECONDS,WINDOWS``, or if there are too many.
        """
        found = self._monitors.get(monitor)
        if found is None:
            if len(self._monitors) >= _MAX_MONITORS:
                raise AuditError(f"more than {_MAX_MONITORS} monitors are in use")
            seconds, _, windows = monitor.partition(",")
            try:
                made = {kind: Series("cidr", float(seconds), int(windows), _MAX_ADDRESSES) for kind in KINDS.values()}
            except (ValueError, CounterError):
                raise AuditError(f"{monitor!r} is not a monitor: SECONDS,WINDOWS") from None
            found = self._monitors[monitor] = made
        return found

    def __call__(self, event: ServerEvent) -> None:
        """Count an event."""
        kind = KINDS.get(type(event))
        if kind is not None:
            text = str(address_of_peer(event.session.peer))  # type: ignore[union-attr]  # all of KINDS have it
            now = self._clock()
            for series in self._monitors.values():
                series[kind].add(text, 1, now)

    def count(self, monitor: str, kind: Kind, network: Network, first: int, last: int) -> int:
        """Return how often something happened in the windows ``first`` to ``last``, for all addresses of a network.

        :raises AuditError: as :meth:`open`.
        """
        series, now = self.open(monitor)[kind], self._clock()
        if network.num_addresses == 1:
            return series.count(str(network.network_address), first, last, now)
        return sum(
            series.count(each, first, last, now)
            for each in series.known
            if (address := _address(each)) is not None and address in network
        )
