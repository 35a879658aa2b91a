"""Limits how often one session repeats a line of the log: twenty lines of a kind, then one with a count.

A line costs work and disk space, and a client can cause some of them as often as it likes.  So the log has the first
lines of a kind.  A line with the count of those left out follows when the session does something else, gets a message
accepted, or ends.  Metrics, notifications of policy clients and Momentum's logs have every event.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, TypeAlias

from attrs import define, field

from triosmtp.event import (
    AuthAttempted,
    Disconnected,
    MessageAccepted,
    MessageRefused,
    PeerAnnounced,
    PolicyFailed,
    PolicyFallback,
    Refused,
    ServerEvent,
    ShadowDiffered,
)

__all__ = ["RepeatFilter", "Repeatable"]

Repeatable: TypeAlias = (
    Refused | MessageRefused | AuthAttempted | PeerAnnounced | PolicyFailed | PolicyFallback | ShadowDiffered
)
"""Events that a client can cause as often as it likes, without a message that is accepted."""

_REPEATABLE: Final[frozenset[type]] = frozenset(Repeatable.__args__)
_ENDING: Final = _REPEATABLE | {Disconnected, MessageAccepted}
_WRITTEN: Final = 20
"""Lines of a kind that are written; as many must be left out before another event causes a line with their count."""
_KINDS: Final = 50
"""Kinds that are distinguished in one session: policies choose codes and names."""
_SESSIONS: Final = 10_000
"""Sessions that are remembered; if there are more, those that began to repeat first are forgotten."""

_Kind: TypeAlias = tuple[object, ...]


@define(slots=True)
class _Session:
    """The lines of one session since its beginning or its latest accepted message."""

    seen: dict[_Kind, int] = field(factory=dict)
    folded: dict[_Kind, tuple[ServerEvent, int]] = field(factory=dict)
    latest: _Kind = ()


class RepeatFilter:
    """Decides which events become lines.

    ``kinds`` has the types of events to be filtered now; an event of another type becomes a line.
    """

    def __init__(self) -> None:
        self.kinds = _REPEATABLE
        self._sessions: OrderedDict[str, _Session] = OrderedDict()

    def __call__(self, event: ServerEvent) -> Iterator[tuple[ServerEvent, int]]:
        """Yield each event to be written now, and how many like it were left out: 0 for a plain line."""
        if type(event) in _REPEATABLE:
            yield from self._repeat(event)
            return
        if isinstance(event, Disconnected | MessageAccepted):
            known = self._sessions.pop(event.session.id, None)
            if not self._sessions:
                self.kinds = _REPEATABLE
            if known is not None:
                yield from known.folded.values()
        yield event, 0

    def _repeat(self, event: ServerEvent) -> Iterator[tuple[ServerEvent, int]]:
        name: str = event.session.id  # type: ignore[union-attr] # all that are repeatable have one
        known = self._sessions.get(name)
        if known is None:
            self.kinds = _ENDING
            known = self._sessions[name] = _Session()
            if len(self._sessions) > _SESSIONS:
                yield from self._sessions.popitem(last=False)[1].folded.values()
        kind = _kind_of(event)
        if kind not in known.seen and len(known.seen) >= _KINDS:
            kind = (type(event),)
        latest, known.latest = known.latest, kind
        if latest != kind and known.folded.get(latest, (event, 0))[1] >= _WRITTEN:
            yield known.folded.pop(latest)
        count = known.seen[kind] = known.seen.get(kind, 0) + 1
        if count <= _WRITTEN:
            yield event, 0
        else:
            known.folded[kind] = event, known.folded.get(kind, (event, 0))[1] + 1


def _kind_of(event: ServerEvent) -> _Kind:
    match event:
        case Refused():
            return Refused, event.phase, event.code, event.decided_by
        case MessageRefused():
            return MessageRefused, event.code, event.decided_by
        case AuthAttempted():
            return AuthAttempted, event.succeeded
        case PolicyFailed() | PolicyFallback() | ShadowDiffered():
            return type(event), event.phase
        case _:
            return (type(event),)
