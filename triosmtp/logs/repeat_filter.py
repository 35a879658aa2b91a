"""Which lines of one session are written: of a kind that it repeats, twenty, and then how many more there were.

What a client repeats costs a line each time, and the client chooses how often.  So the log has the first lines of a
kind, and one with a count when the session goes on to something else, gets a message through, or ends.  Metrics, the
policy stream and Momentum's logs have every event.
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

__all__ = ["Fold", "Repeatable"]

Repeatable: TypeAlias = (
    Refused | MessageRefused | AuthAttempted | PeerAnnounced | PolicyFailed | PolicyFallback | ShadowDiffered
)
"""What a client can bring about as often as it likes, without a message that is accepted."""

_REPEATABLE: Final = frozenset(Repeatable.__args__)
_WRITTEN: Final = 20
"""Lines of a kind that are written, and that must have been folded before something else brings the count out."""
_KINDS: Final = 50
"""Kinds of one session that are told apart: codes and names are the policies' to choose."""
_SESSIONS: Final = 10_000
"""Sessions that are remembered; of more, those that began to repeat first are given up."""

_Kind: TypeAlias = tuple[object, ...]


@define(slots=True)
class _Session:
    """What was written of one session since its beginning or the latest accepted message."""

    seen: dict[_Kind, int] = field(factory=dict)
    folded: dict[_Kind, tuple[ServerEvent, int]] = field(factory=dict)
    latest: _Kind = ()


class Fold:
    """Decides which events become lines."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, _Session] = OrderedDict()

    def __call__(self, event: ServerEvent) -> Iterator[tuple[ServerEvent, int]]:
        """Yield what is to be written now: each event, and how many like it were not written, 0 for a plain line."""
        kind = type(event)
        if kind in _REPEATABLE:
            yield from self._repeat(event)
            return
        if (kind is Disconnected or kind is MessageAccepted) and self._sessions:
            known = self._sessions.pop(event.session.id, None)  # type: ignore[union-attr] # these two have one
            if known is not None:
                yield from known.folded.values()
        yield event, 0

    def _repeat(self, event: ServerEvent) -> Iterator[tuple[ServerEvent, int]]:
        name: str = event.session.id  # type: ignore[union-attr] # all that are repeatable have one
        known = self._sessions.get(name)
        if known is None:
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
