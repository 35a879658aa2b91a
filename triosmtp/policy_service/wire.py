"""The policy protocol's messages: hostile text in, checked values out; values in, text out.

JSON-RPC 2.0 in text frames, with named parameters.  Everything that a client says is read here, by hand, so that each
error names the field that is wrong; the JSON Schemas beside this file say the same for machines, and the tests hold the
two together.  Nothing here knows streams, clients or time limits.
"""

import json
import re
from collections.abc import Mapping
from fnmatch import translate
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final, Literal, NoReturn

from attrs import define, field, frozen

from triosmtp.policy.interface import PHASES, Phase
from triosmtp.policy_service.messages import DecisionWord, Question, Verdict
from triosmtp.variables import is_reserved

__all__ = [
    "ADMIN_NEEDED", "BAD_PARAMETERS", "BAD_REQUEST", "FAILED", "NOTIFICATIONS", "NOT_INITIALIZED", "NO_QUESTION",
    "NO_SESSION", "ON_REQUEST", "PROTOCOL", "UNKNOWN_METHOD", "Call", "Patterns", "ProtocolError", "Registration",
    "Response", "describe", "encode", "error_text", "read_message", "read_registration", "read_verdict", "result_text",
    "variables_of",
]  # fmt: skip

PROTOCOL: Final = "policy.v1.triosmtp"
"""The websocket subprotocol: its name holds the version."""

NOT_JSON: Final = -32700
BAD_REQUEST: Final = -32600
UNKNOWN_METHOD: Final = -32601
BAD_PARAMETERS: Final = -32602
FAILED: Final = -32000
NOT_INITIALIZED: Final = -32001
ADMIN_NEEDED: Final = -32002
NO_SESSION: Final = -32003
NO_QUESTION: Final = -32004

NOTIFICATIONS: Final = (
    "session.opened", "session.tls", "session.tls_failed", "session.auth", "session.refused", "session.closed",
    "message.accepted", "message.refused", "certificates.reloaded", "certificates.reload_failed",
    "certificates.expiring", "configuration.reloaded", "policy.fallback", "policy.shadow", "session.phase",
)  # fmt: skip
ON_REQUEST: Final = frozenset({"session.phase"})
"""Notifications that only those get who name them."""

_WORD: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}").fullmatch
_FIELD_NAME: Final = re.compile(r"[!-9;-~]{1,76}").fullmatch
_ENHANCED: Final = re.compile(r"([245])\.\d{1,3}\.\d{1,3}").fullmatch
_LONGEST_TEXT: Final = 400
_LONGEST_VALUE: Final = 4096
_MOST: Final = 256
"""Entries of any list or dictionary that a client sends."""

_REFUSALS: Final[Mapping[str, tuple[int, str, str]]] = {
    "reject": (550, "5.7.1", "Refused by policy"),
    "tempfail": (451, "4.7.1", "Not now, please try again later"),
    "disconnect": (421, "4.7.0", "Closing the connection"),
}
_AT_CONNECT: Final = {550: 554, 451: 421}
"""What a banner may say in the place of a command's code (RFC 5321, section 3.1)."""


class ProtocolError(Exception):
    """A message that cannot be taken: JSON-RPC's code, and words for whoever wrote the client."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)


# Messages


@frozen(slots=True)
class Call:
    """A request, or a notification where ``id`` is None."""

    id: str | int | None
    method: str
    params: dict[str, Any]


@frozen(slots=True)
class Response:
    """An answer: a result, or an error in its place."""

    id: str | int | None
    result: Any
    error: str
    """Where the answer is an error: what it says; else ``""``."""


def read_message(text: str) -> Call | Response:
    """Read one frame.

    :raises ProtocolError: where it is not JSON, or not JSON-RPC 2.0.
    """
    value = _load(text)
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
        raise ProtocolError(BAD_REQUEST, 'expected an object with "jsonrpc": "2.0"')
    number = value.get("id")
    if number is not None and (isinstance(number, bool) or not isinstance(number, str | int)):
        raise ProtocolError(BAD_REQUEST, "id: expected a string or an integer")
    if isinstance(number, str) and len(number) > _MOST:
        raise ProtocolError(BAD_REQUEST, "id: too long")
    if "method" in value:
        method, params = value["method"], value.get("params", {})
        if not isinstance(method, str):
            raise ProtocolError(BAD_REQUEST, "method: expected a string")
        if not isinstance(params, dict):
            raise ProtocolError(BAD_PARAMETERS, "params: expected an object: parameters are named")
        return Call(number, method, params)
    if ("result" in value) == ("error" in value):
        raise ProtocolError(BAD_REQUEST, "expected one of method, result and error")
    if "result" in value:
        return Response(number, value["result"], "")
    error = value["error"]
    said = error.get("message") if isinstance(error, dict) else None
    return Response(number, None, repr(said)[:200] if isinstance(said, str) else "an error without a message")


def _load(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_distinct)
    except ProtocolError:
        raise
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise ProtocolError(NOT_JSON, f"not JSON: {reason}") from None


def _no_constant(name: str) -> NoReturn:
    raise ProtocolError(NOT_JSON, f"not JSON: {name}")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # Two readers may each believe another one of them.
        raise ProtocolError(NOT_JSON, "a key stands twice in an object")
    return found


_encoder = json.JSONEncoder(separators=(",", ":"), check_circular=False)
encode: Final = _encoder.encode
"""Give the JSON text of a plain value, in ASCII: a lone surrogate, which a peer's octets may have become, survives."""


def result_text(number: str | int | None, result: object) -> str:
    """Give the answer to a request."""
    return encode({"jsonrpc": "2.0", "id": number, "result": result})


def error_text(number: str | int | None, error: ProtocolError) -> str:
    """Give the answer to a request that failed, or to what was no request (``number`` is None)."""
    return encode({"jsonrpc": "2.0", "id": number, "error": {"code": error.code, "message": error.message}})


# What a client wants


@define(slots=True, eq=False)
class Patterns:
    """Names by shell patterns such as ``tls*``; remembers what it was asked, in bounded memory."""

    patterns: tuple[str, ...]
    _match: Any = field(init=False)
    _known: dict[str, bool] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self._match = None if "*" in self.patterns else _compiled(self.patterns)

    def __contains__(self, name: str) -> bool:
        if self._match is None:
            return True
        known = self._known.get(name)
        if known is None:
            known = self._match(name) is not None
            if len(self._known) < 1000:
                self._known[name] = known
        return known

    def of(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Give those of ``variables`` whose names match."""
        if self._match is None:
            return dict(variables)
        return {name: value for name, value in variables.items() if name in self}


@lru_cache(maxsize=256)
def _compiled(patterns: tuple[str, ...]) -> Any:
    return re.compile("|".join(translate(pattern) for pattern in patterns) or "(?!)").match


@frozen(slots=True, kw_only=True, eq=False)
class Registration:
    """What a client said of itself in ``initialize``."""

    name: str
    group: str = ""
    role: Literal["observer", "decider"] = "observer"
    phases: frozenset[Phase] = frozenset()
    variables: Patterns = field(factory=lambda: Patterns(("*",)))
    """Names that it wants of the connection context."""
    message_variables: Patterns = field(factory=lambda: Patterns(("*",)))
    """Names that it wants of the message context."""
    mode: Literal["enforce", "shadow"] = "enforce"
    peers: tuple[IPv4Network | IPv6Network, ...] = ()
    """Peers that it wants to hear of; empty: all of them."""
    listeners: frozenset[str] = frozenset()
    """Names of Listens likewise."""
    notifications: frozenset[str] = frozenset(NOTIFICATIONS) - ON_REQUEST
    changed_only: bool = False
    bodies: bool = False
    """Whether it asks for the messages themselves in ``session.phase``."""

    @property
    def seen(self) -> object:
        """What clients that see the same of the contexts have in common."""
        return self.variables.patterns, self.message_variables.patterns

    def wanted(self, context: str) -> Patterns:
        """Return the patterns of a context: ``variables`` or ``message_variables``."""
        return self.message_variables if context == "message_variables" else self.variables

    @property
    def decides(self) -> bool:
        """Whether its answers are applied."""
        return self.role == "decider" and self.mode == "enforce"

    @property
    def shadows(self) -> bool:
        """Whether it is asked, and its answers are only recorded."""
        return self.role == "decider" and self.mode == "shadow"

    def wants_session(self, peer: str, listener: str) -> bool:
        """Whether it wants to hear of a session from ``peer`` on ``listener``."""
        if self.listeners and listener not in self.listeners:
            return False
        return not self.peers or _is_in(peer, self.peers)


@lru_cache(maxsize=4096)
def _is_in(peer: str, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    host = peer.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in networks)


def read_registration(params: Mapping[str, Any]) -> Registration:
    """Read the parameters of ``initialize``.

    :raises ProtocolError: naming the parameter that is wrong.
    """
    role = _choice(params, "role", ("observer", "decider"), "observer")
    group = _text(params, "group", "")
    phases = _strings(params, "phases", ())
    unknown = [phase for phase in phases if phase not in PHASES]
    if unknown:
        raise _bad("phases", f"there is no phase {unknown[0]!r}; there are {', '.join(PHASES)}")
    if group and not _WORD(group):
        raise _bad("group", "expected at most 64 letters, digits, dots, dashes and underscores")
    if role == "decider" and not group:
        raise _bad("group", "a decider needs one")
    if role == "decider" and not phases:
        raise _bad("phases", "a decider needs one at least")
    name = _text(params, "name", None)
    if not _WORD(name):
        raise _bad("name", "expected 1 to 64 letters, digits, dots, dashes and underscores")
    wanted = _strings(params, "notifications", None)
    variables = _strings(params, "variables", ("*",))
    return Registration(
        name=name,
        group=group,
        role="decider" if role == "decider" else "observer",
        phases=frozenset(phase for phase in PHASES if phase in phases),
        variables=Patterns(variables),
        message_variables=Patterns(_strings(params, "message_variables", variables)),
        mode="shadow" if _choice(params, "mode", ("enforce", "shadow"), "enforce") == "shadow" else "enforce",
        peers=_networks(params),
        listeners=frozenset(_strings(params, "listeners", ())),
        notifications=_notifications(wanted),
        changed_only=_boolean(params, "changed_only"),
        bodies=_boolean(params, "bodies"),
    )


def _notifications(wanted: tuple[str, ...] | None) -> frozenset[str]:
    if wanted is None:
        return frozenset(NOTIFICATIONS) - ON_REQUEST
    found: set[str] = set()
    for pattern in wanted:
        named = {name for name in NOTIFICATIONS if name == pattern or name in Patterns((pattern,))}
        if not named:
            raise _bad("notifications", f"{pattern!r} names none; there are {', '.join(NOTIFICATIONS)}")
        found |= named if pattern in ON_REQUEST else named - ON_REQUEST
    return frozenset(found)


def _networks(params: Mapping[str, Any]) -> tuple[IPv4Network | IPv6Network, ...]:
    networks = []
    for text in _strings(params, "peers", ()):
        try:
            networks.append(ip_network(text, strict=False))
        except ValueError:
            raise _bad("peers", f"{text!r} is not an address or a CIDR block") from None
    return tuple(networks)


# What a decider answers


def read_verdict(result: object, question: Question, source: str) -> Verdict:
    """Read a decision.

    :raises ProtocolError: naming the field that is wrong: then nothing of it is applied.
    """
    if not isinstance(result, dict):
        raise _bad("result", "expected an object")
    words = ("continue", "done", "reject", "tempfail", "discard", "disconnect")
    decision: DecisionWord = _choice(result, "decision", words, None)  # type: ignore[assignment]  # one of them
    changes = result.get("set", {})
    if not isinstance(changes, dict):
        raise _bad("set", "expected an object")
    code, enhanced, text = _refusal(result, decision, question.phase)
    return Verdict(
        decision=decision,
        code=code,
        enhanced=enhanced,
        text=text,
        set_connection=variables_of(changes, "connection", "set."),
        set_message=variables_of(changes, "message", "set."),
        add_headers=_headers(result),
        source=source,
    )


def _refusal(result: Mapping[str, Any], decision: str, phase: Phase) -> tuple[int, str, str]:
    default = _REFUSALS.get(decision)
    code, enhanced, text = result.get("code"), result.get("enhanced"), _text(result, "text", "")
    if code is not None and (isinstance(code, bool) or not isinstance(code, int)):
        raise _bad("code", "expected an integer")
    if enhanced is not None and not (isinstance(enhanced, str) and enhanced.isascii() and _ENHANCED(enhanced)):
        raise _bad("enhanced", "expected a code such as 5.7.1")
    if len(text) > _LONGEST_TEXT or not (text.isascii() and text.isprintable()):
        raise _bad("text", f"expected one line of at most {_LONGEST_TEXT} printable ASCII characters")
    if default is None:
        return 0, "", ""
    if code is None:
        code = default[0] if enhanced is None or enhanced[0] == str(default[0])[0] else int(enhanced[0]) * 100 + 50
        if phase == "connect":
            code = _AT_CONNECT.get(code, code)
    allowed = {"reject": range(400, 600), "tempfail": range(400, 500), "disconnect": (421, 521, 554)}[decision]
    if code not in allowed:
        raise _bad("code", f"{code} does not {decision}")
    if enhanced is None:
        enhanced = default[1] if default[1][0] == str(code)[0] else f"{code // 100}.7.1"
    elif enhanced[0] != str(code)[0]:
        raise _bad("enhanced", f"{enhanced} is not of the class of {code}")
    return code, enhanced, text or default[2]


def _headers(result: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    pairs = result.get("add_headers", [])
    if not isinstance(pairs, list) or len(pairs) > 32:
        raise _bad("add_headers", "expected a list of at most 32 pairs")
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise _bad("add_headers", 'expected pairs: ["Name", "value"]')
        name, value = pair
        if not (name.isascii() and _FIELD_NAME(name)):
            raise _bad("add_headers", f"{name[:76]!r} is not the name of a header field")
        if len(value) > _LONGEST_VALUE or not (value.isprintable() and _is_text(value)):
            raise _bad("add_headers", f"{name}: expected at most {_LONGEST_VALUE} printable characters")
    return tuple((name, value) for name, value in pairs)


def variables_of(params: Mapping[str, Any], key: str, where: str = "") -> dict[str, str | None]:
    """Read variables to set, or to remove (null), from ``params[key]``.

    :raises ProtocolError: naming what is wrong; a key that only the engine may write is.
    """
    values = params.get(key, {})
    if not isinstance(values, dict) or len(values) > _MOST:
        raise _bad(f"{where}{key}", f"expected an object of at most {_MOST} variables")
    for name, value in values.items():
        if not name or len(name) > _MOST or not (name.isascii() and name.isprintable()):
            raise _bad(f"{where}{key}", "expected names of 1 to 256 printable ASCII characters")
        if is_reserved(name):
            raise _bad(f"{where}{key}", f"{name} is written by the TLS engine alone")
        if value is not None and not (isinstance(value, str) and len(value) <= _LONGEST_VALUE and _is_text(value)):
            raise _bad(f"{where}{key}", f"{name}: expected a string of at most {_LONGEST_VALUE} characters, or null")
    return dict(values)


def describe(verdict: Verdict) -> str:
    """Give a verdict in a few words."""
    return f"{verdict.decision} {verdict.code} {verdict.enhanced}" if verdict.code else verdict.decision


# Fields


def _bad(name: str, expected: str) -> ProtocolError:
    return ProtocolError(BAD_PARAMETERS, f"{name}: {expected}")


def _is_text(value: str) -> bool:
    """Whether it can be encoded: JSON lets lone surrogates pass."""
    return value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value)


def _text(params: Mapping[str, Any], name: str, default: str | None) -> str:
    value = params.get(name, default)
    if not isinstance(value, str):
        raise _bad(name, "expected a string")
    return value


def _boolean(params: Mapping[str, Any], name: str) -> bool:
    value = params.get(name, False)
    if not isinstance(value, bool):
        raise _bad(name, "expected true or false")
    return value


def _choice(params: Mapping[str, Any], name: str, words: tuple[str, ...], default: str | None) -> str:
    value = params.get(name, default)
    if not isinstance(value, str) or value not in words:
        raise _bad(name, f"expected one of {', '.join(words)}")
    return value


def _strings(params: Mapping[str, Any], name: str, default: Any) -> Any:
    value = params.get(name, default)
    if value is default:
        return default
    fits = isinstance(value, list) and len(value) <= _MOST
    if not fits or not all(isinstance(each, str) and 0 < len(each) <= _MOST for each in value):
        raise _bad(name, f"expected a list of at most {_MOST} strings")
    return tuple(value)
