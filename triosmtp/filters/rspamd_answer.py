"""The answer of rspamd to a message, as a checked value.

https://docs.rspamd.com/developers/protocol#rspamd-http-reply
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from attrs import frozen

__all__ = ["AddedHeader", "RspamdAnswer", "RspamdAnswerError", "parse_answer"]

_MAX_ITEMS: Final = 1000
"""Addresses of one kind in an answer."""
_MAX_ACTION: Final = 100
"""Characters of the name of an action: it becomes a variable of the message."""
_TOP: Final = 1
"""The order of a field that stands before all others, the Received of this server excepted."""


class RspamdAnswerError(ValueError):
    """An answer that cannot be applied; the text says why."""


@frozen(slots=True)
class AddedHeader:
    """A header field; ``order`` counts from 1, the first field of the message.  A negative one is behind the last."""

    name: str
    value: str
    order: int = -1


@frozen(slots=True, kw_only=True)
class RspamdAnswer:
    """The decision of rspamd, and the changes that it wants."""

    action: str
    """``no action``, ``greylist``, ``add header``, ``rewrite subject``, ``soft reject``, ``reject``, or another one."""
    message: str = ""
    """The text for the client; ``""`` if the rules have none."""
    subject: str | None = None
    score: str = ""
    """The score with the score at which messages are rejected, for the log."""
    removed: tuple[tuple[str, int], ...] = ()
    """Fields to delete: the name, and the number of the field from 1, from -1 backwards, or 0 for all."""
    added: tuple[AddedHeader, ...] = ()
    sender: str | None = None
    added_recipients: tuple[str, ...] = ()
    deleted_recipients: tuple[str, ...] = ()


def parse_answer(data: bytes) -> RspamdAnswer:
    """Read an answer.

    :raises RspamdAnswerError: if it is none.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise RspamdAnswerError("not JSON") from None
    if not isinstance(found, dict):
        raise RspamdAnswerError("not an object")
    if "error" in found:
        raise RspamdAnswerError(f"the error {str(found['error'])[:200]!r}")
    action = _text(found.get("action"), "action")
    if len(action) > _MAX_ACTION or not action.isprintable():
        raise RspamdAnswerError(f"action: {action[:_MAX_ACTION]!r} is not the name of one")
    messages, milter = _object(found.get("messages"), "messages"), _object(found.get("milter"), "milter")
    signatures = found.get("dkim-signature", ())
    signed = [AddedHeader("DKIM-Signature", text, _TOP) for text in _texts(signatures, "dkim-signature")]
    return RspamdAnswer(
        action=action.lower(),
        message=_text(messages.get("smtp_message", ""), "smtp_message"),
        subject=_text(found["subject"], "subject") if "subject" in found else None,
        score=f"{_number(found.get('score'))}/{_number(found.get('required_score'))}",
        removed=tuple(_removed(milter.get("remove_headers"))),
        added=(*signed, *_added(milter.get("add_headers"))),
        sender=_text(milter["change_from"], "change_from") if "change_from" in milter else None,
        added_recipients=_texts(milter.get("add_rcpt", ()), "add_rcpt"),
        deleted_recipients=_texts(milter.get("del_rcpt", ()), "del_rcpt"),
    )


def _items(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the entries of an object, or of a list of them: what Lua rules put together may be either."""
    for each in value if isinstance(value, list) else (value,):
        yield from _object(each, name).items()


def _removed(found: Any) -> Iterator[tuple[str, int]]:
    for name, value in _items(found, "remove_headers"):
        for number in value if isinstance(value, list) else (value,):
            if not isinstance(number, int) or abs(number) > 1 << 31:
                raise RspamdAnswerError("remove_headers: expected numbers")
            yield name, number


def _added(found: Any) -> Iterator[AddedHeader]:
    for name, value in _items(found, "add_headers"):
        for each in value if isinstance(value, list) else (value,):
            if isinstance(each, dict):
                order = each.get("order", -1)
                if not isinstance(order, int) or abs(order) > 1 << 31:
                    raise RspamdAnswerError("add_headers: expected a number as order")
                yield AddedHeader(name, _text(each.get("value"), "add_headers"), order)
            else:
                yield AddedHeader(name, _text(each, "add_headers"))


def _texts(value: Any, name: str) -> tuple[str, ...]:
    values = value if isinstance(value, list | tuple) else (value,)
    if len(values) > _MAX_ITEMS:
        raise RspamdAnswerError(f"{name}: more than {_MAX_ITEMS}")
    return tuple(_text(each, name) for each in values)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or any("\ud800" <= each <= "\udfff" for each in value):
        raise RspamdAnswerError(f"{name}: expected a text")
    return value


def _object(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RspamdAnswerError(f"{name}: expected an object")
    return value


def _number(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, int | float) and abs(value) < 1e9 else "?"
