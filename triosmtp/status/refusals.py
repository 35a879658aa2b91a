"""The latest refusals, those that repeat folded to one with a count."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Final

__all__ = ["Refusals", "envelope", "host_of", "shortened"]

_TEXT: Final = 200
"""Characters that are kept of one text of a peer."""
_RECIPIENTS: Final = 3
"""Recipients that are kept of one refusal."""


class Refusals:
    """At most ``size`` kinds of refusals; the kind that was refused longest ago gives way."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kinds: OrderedDict[Hashable, dict[str, Any]] = OrderedDict()

    def add(self, now: float, kind: Hashable, shown: dict[str, Any]) -> None:
        """Take a refusal, ``shown`` as a value for JSON; of one kind the latest is shown, and how many there were."""
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
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}…"


def envelope(sender: str | None, recipients: tuple[str, ...]) -> dict[str, Any]:
    """Return what is shown of sender and recipients; ``recipients_more`` counts those that are left out."""
    return {
        "sender": None if sender is None else shortened(f"<{sender}>"),
        "recipients": [shortened(f"<{each}>") for each in recipients[:_RECIPIENTS]],
        "recipients_more": max(0, len(recipients) - _RECIPIENTS),
    }


def host_of(peer: str) -> str:
    """Return the address of a peer such as ``192.0.2.1:25`` or ``[2001:db8::1]:25``, without its port."""
    host, _, port = peer.rpartition(":")
    return host if host and port.isdecimal() else peer
