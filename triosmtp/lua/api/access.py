"""What the functions share: the session, contexts and message of a callout, and texts of scripts."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, TypeAlias

from triosmtp.lua.host import ScriptError
from triosmtp.message import Message
from triosmtp.message.header_edits import HeaderEdits
from triosmtp.policy import Session
from triosmtp.variables import Variables

__all__ = [
    "CONN", "MESS", "Callout", "context_of", "edits_of", "message_of", "seen_context", "seen_value", "session_of",
    "text",
]  # fmt: skip

Callout: TypeAlias = Any

CONN: Final = 1
MESS: Final = 2
"""The contexts: scripts use VCTX_… and ECMESS_CTX_… for either, so these are the same numbers."""


def text(value: bytes) -> str:
    """Return a string of a script as text; octets that are no UTF-8 become U+FFFD."""
    return value.decode("utf-8", "replace")


def session_of(callout: Callout) -> Session:
    """Return the session that a callout is about.

    :raises ScriptError: if there is none, as in ``init``.
    """
    session = None if callout is None else callout.session
    if session is None:
        raise ScriptError("there is no session here")
    found: Session = session
    return found


def message_of(callout: Callout) -> Message:
    """Return the message that a callout is about.

    :raises ScriptError: if its body has not arrived yet.
    """
    session_of(callout)
    if callout.message is None:
        raise ScriptError("the message is not there before its body has arrived")
    found: Message = callout.message
    return found


def edits_of(callout: Callout) -> HeaderEdits:
    """Return the changes of the message, or of the copy for one recipient, to read them and to add others."""
    if callout.recipient is not None:
        return message_of(callout).edits_of(callout.recipient)
    found: HeaderEdits = callout.edits
    return found


def context_of(callout: Callout, kind: int) -> Variables:
    """Return a context of the session.

    :raises ScriptError: if ``kind`` is none.
    """
    session = session_of(callout)
    if kind == CONN:
        return session.variables
    if kind == MESS:
        return session.message_variables
    raise ScriptError("a context is VCTX_CONN or VCTX_MESS")


def seen_value(context: Mapping[str, str], key: str) -> str | None:
    """Return a variable as Momentum has it: ``tls_client_verified`` is ``yes`` or absent.

    A script that only asks whether it is there must not take a failed certificate for a good one.
    """
    value = context.get(key)
    return None if key == "tls_client_verified" and value != "yes" else value


class seen_context(Mapping[str, str]):  # noqa: N801 - a view, used as a function
    """A context as scripts see it: see :func:`seen_value`."""

    def __init__(self, context: Mapping[str, str]) -> None:
        self._context = context
        self._value = partial(seen_value, context)

    def __getitem__(self, key: str) -> str:
        value = self._value(key)
        if value is None:
            raise KeyError(key)
        return value

    def __iter__(self) -> Any:
        return (key for key in self._context if self._value(key) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)
