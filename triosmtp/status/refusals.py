"""The latest refusals; repeated ones are one entry with a count."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Final

__all__ = ["Refusals", "envelope_summary", "host_of", "shortened"]

_MAX_TEXT: Final = 200
"""Characters of a peer's text that are kept."""
_MAX_RECIPIENTS: Final = 3
"""Recipients of a refusal that are kept."""


class Refusals:
    """At most ``size`` kinds of refusals; a new kind replaces the one that was refused longest ago."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kinds: OrderedDict[Hashable, dict[str, Any]] = OrderedDict()

    def add(self, now: float, kind: Hashable, shown: dict[str, Any]) -> None:
        """Add a refusal, ``shown`` as a value for JSON.  Each kind shows its latest refusal and the count."""
        before = self._kinds.pop(kind, None)
        first, count = (now, 0) if before is None else (before["first"], before["count"])
        self._kinds[kind] = {"time": now, "first": first, "count": count + 1, **shown}
        if len(self._kinds) > self._size:
            self._kinds.popitem(last=False)

    def latest(self) -> list[dict[str, Any]]:
        """Return them, the latest first."""
        return list(reversed(self._kinds.values()))


def shortened(text: str) -> str:
    """Return a text of a peer, cut if it is long."""
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"


def envelope_summary(sender: str | None, recipients: tuple[str, ...]) -> dict[str, Any]:
    """Return sender and recipients as shown; ``recipients_more`` counts those that are omitted."""
    return {
        "sender": None if sender is None else shortened(f"<{sender}>"),
        "recipients": [shortened(f"<{each}>") for each in recipients[:_MAX_RECIPIENTS]],
        "recipients_more": max(0, len(recipients) - _MAX_RECIPIENTS),
    }


def host_of(peer: str) -> str:
    """Return the address of a peer such as ``192.0.2.1:25`` or ``[2001:db8::1]:25``, without its port."""
    host, _, port = peer.rpartition(":")
    return host if host and port.isdecimal() else peer
