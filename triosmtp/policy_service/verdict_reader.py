"""The answer of a decider: the result of a question, checked in whole before any part of it is applied."""

import re
from collections.abc import Mapping
from typing import Any, Final

from triosmtp.policy.interface import Phase
from triosmtp.policy_service.json_field import invalid_field, is_encodable, read_choice, read_text
from triosmtp.policy_service.json_rpc import MAX_ENTRIES
from triosmtp.policy_service.question import DecisionWord, Question, Verdict
from triosmtp.variables import is_reserved

__all__ = ["describe_verdict", "read_variables", "read_verdict"]

_FIELD_NAME: Final = re.compile(r"[!-9;-~]{1,76}").fullmatch
_ENHANCED: Final = re.compile(r"([245])\.\d{1,3}\.\d{1,3}").fullmatch
_MAX_TEXT: Final = 400
_MAX_VALUE: Final = 4096
_MAX_HEADERS: Final = 32
_DECISIONS: Final = ("continue", "done", "reject", "tempfail", "discard", "disconnect")

_REFUSALS: Final[Mapping[str, tuple[int, str, str]]] = {
    "reject": (550, "5.7.1", "Refused by policy"),
    "tempfail": (451, "4.7.1", "Not now, please try again later"),
    "disconnect": (421, "4.7.0", "Closing the connection"),
}
_AT_CONNECT: Final = {550: 554, 451: 421}
"""The code of the greeting for the code of a command (RFC 5321, section 3.1)."""


def read_verdict(result: object, question: Question, source: str) -> Verdict:
    """Read the answer to ``question``; ``source`` is the name of the decider.

    :raises ProtocolError: if a field is invalid; the text names it.  Then no part of the answer may be applied.
    """
    if not isinstance(result, dict):
        raise invalid_field("result", "expected an object")
    decision: DecisionWord = read_choice(result, "decision", _DECISIONS, None)  # type: ignore[assignment]  # one of them
    changes = result.get("set", {})
    if not isinstance(changes, dict):
        raise invalid_field("set", "expected an object")
    code, enhanced, text = _refusal(result, decision, question.phase)
    return Verdict(
        decision=decision,
        code=code,
        enhanced=enhanced,
        text=text,
        set_connection=read_variables(changes, "connection", "set."),
        set_message=read_variables(changes, "message", "set."),
        add_headers=_headers(result),
        source=source,
    )


def _refusal(result: Mapping[str, Any], decision: str, phase: Phase) -> tuple[int, str, str]:
    default = _REFUSALS.get(decision)
    code, enhanced, text = result.get("code"), result.get("enhanced"), read_text(result, "text", "")
    if code is not None and (isinstance(code, bool) or not isinstance(code, int)):
        raise invalid_field("code", "expected an integer")
    if enhanced is not None and not (isinstance(enhanced, str) and enhanced.isascii() and _ENHANCED(enhanced)):
        raise invalid_field("enhanced", "expected a code such as 5.7.1")
    if len(text) > _MAX_TEXT or not (text.isascii() and text.isprintable()):
        raise invalid_field("text", f"expected one line of at most {_MAX_TEXT} printable ASCII characters")
    if default is None:
        return 0, "", ""
    if code is None:
        code = default[0] if enhanced is None or enhanced[0] == str(default[0])[0] else int(enhanced[0]) * 100 + 50
        if phase == "connect":
            code = _AT_CONNECT.get(code, code)
    allowed = {"reject": range(400, 600), "tempfail": range(400, 500), "disconnect": (421, 521, 554)}[decision]
    if code not in allowed:
        raise invalid_field("code", f"{code} does not {decision}")
    if enhanced is None:
        enhanced = default[1] if default[1][0] == str(code)[0] else f"{code // 100}.7.1"
    elif enhanced[0] != str(code)[0]:
        raise invalid_field("enhanced", f"{enhanced} is not of the class of {code}")
    return code, enhanced, text or default[2]


def _headers(result: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    pairs = result.get("add_headers", [])
    if not isinstance(pairs, list) or len(pairs) > _MAX_HEADERS:
        raise invalid_field("add_headers", f"expected a list of at most {_MAX_HEADERS} pairs")
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise invalid_field("add_headers", 'expected pairs: ["Name", "value"]')
        name, value = pair
        if not (name.isascii() and _FIELD_NAME(name)):
            raise invalid_field("add_headers", f"{name[:76]!r} is not the name of a header field")
        if len(value) > _MAX_VALUE or not (value.isprintable() and is_encodable(value)):
            raise invalid_field("add_headers", f"{name}: expected at most {_MAX_VALUE} printable characters")
    return tuple((name, value) for name, value in pairs)


def read_variables(params: Mapping[str, Any], key: str, where: str = "") -> dict[str, str | None]:
    """Read variables to set, or to remove (null), from ``params[key]``.  ``where`` is prefixed to the key in errors.

    :raises ProtocolError: if one is invalid, or only the TLS engine may write it.
    """
    values = params.get(key, {})
    if not isinstance(values, dict) or len(values) > MAX_ENTRIES:
        raise invalid_field(f"{where}{key}", f"expected an object of at most {MAX_ENTRIES} variables")
    for name, value in values.items():
        if not name or len(name) > MAX_ENTRIES or not (name.isascii() and name.isprintable()):
            raise invalid_field(f"{where}{key}", "expected names of 1 to 256 printable ASCII characters")
        if is_reserved(name):
            raise invalid_field(f"{where}{key}", f"{name} is written by the TLS engine alone")
        if value is not None and not (isinstance(value, str) and len(value) <= _MAX_VALUE and is_encodable(value)):
            raise invalid_field(
                f"{where}{key}", f"{name}: expected a string of at most {_MAX_VALUE} characters, or null"
            )
    return dict(values)


def describe_verdict(verdict: Verdict) -> str:
    """Return a verdict in a few words."""
    return f"{verdict.decision} {verdict.code} {verdict.enhanced}" if verdict.code else verdict.decision
