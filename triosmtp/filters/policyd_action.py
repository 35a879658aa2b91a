"""The action of a policy service's answer (access(5)), as a checked value."""

import re
from typing import Final

from attrs import frozen

__all__ = ["WORDS", "Action", "parse_action"]

WORDS: Final = (
    "DUNNO", "OK", "PERMIT", "REJECT", "DEFER", "DEFER_IF_PERMIT", "DEFER_IF_REJECT", "PREPEND", "DISCARD", "HOLD",
    "REDIRECT", "BCC", "WARN", "INFO",
)  # fmt: skip
"""The actions that are known, beside a reply code; all others are refused with 451 4.3.5."""

_CODES: Final = {"REJECT": 554, "DEFER": 450, "DEFER_IF_PERMIT": 450, "DEFER_IF_REJECT": 450}
_TEXTS: Final = {"DEFER_IF_PERMIT": "Service unavailable", "DEFER_IF_REJECT": "Service unavailable"}
_DIVIDED = re.compile(r"([^ \t]*)[ \t]*(.*)", re.DOTALL)
_CODE = re.compile(r"[45][0-5][0-9]").fullmatch
_ENHANCED = re.compile(r"[245](\.[0-9]{1,3}\.[0-9]{1,3})(?:[ \t]+|$)")


@frozen(slots=True)
class Action:
    """One action.

    ``word`` is one of :data:`WORDS`, or ``UNKNOWN``.  A reply code with a text is REJECT or DEFER.  ``code`` and
    ``enhanced`` are those of the reply, if the action has one.
    """

    word: str
    text: str = ""
    code: int = 0
    enhanced: str = ""


_DUNNO: Final = Action("DUNNO")


def parse_action(action: str) -> Action:
    """Parse the value of ``action``.  An empty one is DUNNO, as for Postfix.

    A reply code without a text refuses, too; Postfix takes it for OK.
    """
    first, text = _DIVIDED.match(action.strip(" \t")).groups()  # type: ignore[union-attr]  # it matches every text
    word = first.upper()
    if word in {"", "DUNNO"}:
        return _DUNNO
    if word in _CODES:
        return _with_reply(word, _CODES[word], text)
    if _CODE(first):
        return _with_reply("DEFER" if first[0] == "4" else "REJECT", int(first), text)
    return Action(word, text) if word in WORDS else Action("UNKNOWN", action)


def _with_reply(word: str, code: int, text: str) -> Action:
    """Separate an enhanced status code (RFC 3463) from the text; its class is always that of the reply code."""
    match = _ENHANCED.match(text)
    rest = ".7.1"
    if match is not None:
        rest, text = match[1], text[match.end() :]
    return Action(word, text or _TEXTS.get(word, "Access denied"), code, f"{code // 100}{rest}")
