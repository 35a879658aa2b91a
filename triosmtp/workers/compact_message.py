"""The form in which the frequent messages of a worker cross the channel: tuples of texts and numbers.

Pickle looks up the class of each object in a frame by its name, in both processes, and calls it.  Per connection, that
was a fifth of the supervisor's work.  A tuple needs no class: its first item is the number of the class.
"""

from collections.abc import Iterable
from typing import Any, Final

from attrs import fields

from triosmtp.event import Connected, Disconnected, MessageAccepted, SessionInfo, TLSEstablished
from triosmtp.variables import TLSInfo
from triosmtp.workers.worker_messages import ConnectionClosed

__all__ = ["FIRST_NUMBER", "compact", "expand"]

FIRST_NUMBER: Final = 2
"""The lowest number of a class.  Tuples with a lower one are requests and answers."""

_KINDS: Final[tuple[type[Any], ...]] = (ConnectionClosed, Connected, TLSEstablished, MessageAccepted, Disconnected)
_NUMBERS: Final = {kind: number for number, kind in enumerate(_KINDS, FIRST_NUMBER)}
_NAMES: Final = {kind: tuple(each.name for each in fields(kind)) for kind in (*_KINDS, SessionInfo, TLSInfo)}
_PARTS: Final = (("session", SessionInfo), ("tls", TLSInfo))


def compact(messages: Iterable[object]) -> list[object]:
    """Return ``messages`` for :func:`expand`, the frequent ones as tuples.

    A value that several messages share becomes one tuple, which pickle writes once.
    """
    made: dict[int, tuple[object, ...]] = {}
    result: list[object] = []
    for message in messages:
        number = _NUMBERS.get(type(message))
        if number is None:
            result.append(message)
            continue
        values = vars(message).copy()
        for name, _ in _PARTS:
            part = values.get(name)
            if part is not None:
                state = made.get(id(part))
                if state is None:
                    state = made[id(part)] = tuple(vars(part).values())
                values[name] = state
        result.append((number, *values.values()))
    return result


def expand(messages: Iterable[Any]) -> list[Any]:
    """Return the messages that :func:`compact` made smaller, and all others."""
    made: dict[int, object] = {}
    result: list[Any] = []
    for message in messages:
        if type(message) is not tuple or message[0] < FIRST_NUMBER:
            result.append(message)
            continue
        event = _make(_KINDS[message[0] - FIRST_NUMBER], message[1:])
        values = vars(event)
        for name, kind in _PARTS:
            state = values.get(name)
            if state is not None:
                part = made.get(id(state))
                if part is None:
                    part = made[id(state)] = _make(kind, state)
                values[name] = part
        result.append(event)
    return result


def _make(kind: Any, values: Any) -> Any:
    made = kind.__new__(kind)
    object.__setattr__(made, "__dict__", dict(zip(_NAMES[kind], values, strict=True)))  # frozen, and valid already
    return made
