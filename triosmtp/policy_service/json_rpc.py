"""JSON-RPC 2.0 messages of the policy protocol: text of an untrusted client in, checked values out, and back.

Parameters are named; a batch is refused.  ``registration.py`` reads the parameters of ``initialize``, and
``verdict_reader.py`` the result of a question.  The JSON Schemas in ``schema/`` state the same rules; the tests compare
both.
"""

import json
from enum import IntEnum
from typing import Any, Final, NoReturn

from attrs import frozen

__all__ = [
    "MAX_ENTRIES", "PROTOCOL", "ErrorCode", "ProtocolError", "RPCRequest", "RPCResponse", "encode_error", "encode_json",
    "encode_result", "read_message",
]  # fmt: skip

PROTOCOL: Final = "policy.v1.triosmtp"
"""The websocket subprotocol.  The name contains the version."""
MAX_ENTRIES: Final = 256
"""Entries of any list or object that a client sends, and characters of a name or id."""


class ErrorCode(IntEnum):
    """Codes of errors: those of JSON-RPC 2.0, section 5.1, and those of this protocol (from -32000 on)."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    FAILED = -32000
    NOT_INITIALIZED = -32001
    ADMIN_NEEDED = -32002
    NO_SESSION = -32003
    NO_QUESTION = -32004


class ProtocolError(Exception):
    """A message that the hub refuses: the code of the JSON-RPC error, and a text for the author of the client."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)


@frozen(slots=True)
class RPCRequest:
    """A request; or a notification, if ``id`` is None."""

    id: str | int | None
    method: str
    params: dict[str, Any]


@frozen(slots=True)
class RPCResponse:
    """The response to a request: a result or an error."""

    id: str | int | None
    result: Any
    error: str
    """The message of the error; ``""`` if there is a result."""


def read_message(text: str) -> RPCRequest | RPCResponse:
    """Read one message.

    :raises ProtocolError: if ``text`` is not JSON, or not JSON-RPC 2.0.
    """
    value = _load(text)
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
        raise ProtocolError(ErrorCode.INVALID_REQUEST, 'expected an object with "jsonrpc": "2.0"')
    number = value.get("id")
    if number is not None and (isinstance(number, bool) or not isinstance(number, str | int)):
        raise ProtocolError(ErrorCode.INVALID_REQUEST, "id: expected a string or an integer")
    if isinstance(number, str) and len(number) > MAX_ENTRIES:
        raise ProtocolError(ErrorCode.INVALID_REQUEST, "id: too long")
    if "method" in value:
        method, params = value["method"], value.get("params", {})
        if not isinstance(method, str):
            raise ProtocolError(ErrorCode.INVALID_REQUEST, "method: expected a string")
        if not isinstance(params, dict):
            raise ProtocolError(ErrorCode.INVALID_PARAMS, "params: expected an object: parameters are named")
        return RPCRequest(number, method, params)
    if ("result" in value) == ("error" in value):
        raise ProtocolError(ErrorCode.INVALID_REQUEST, "expected one of method, result and error")
    if "result" in value:
        return RPCResponse(number, value["result"], "")
    error = value["error"]
    message = error.get("message") if isinstance(error, dict) else None
    return RPCResponse(number, None, repr(message)[:200] if isinstance(message, str) else "an error without a message")


def _load(text: str) -> Any:
    try:
        return _decode(text)
    except ProtocolError:
        raise
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise ProtocolError(ErrorCode.PARSE_ERROR, f"not JSON: {reason}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ProtocolError(ErrorCode.PARSE_ERROR, f"not JSON: {name}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # Two readers could take different values for it.
        raise ProtocolError(ErrorCode.PARSE_ERROR, "a key stands twice in an object")
    return found


_decode: Final = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_object).decode

encode_json: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
"""Return the JSON text of a plain value, in ASCII.  A lone surrogate, from octets of an SMTP client, is kept."""


def encode_result(number: str | int | None, result: object) -> str:
    """Return the response to a request that succeeded."""
    return encode_json({"jsonrpc": "2.0", "id": number, "result": result})


def encode_error(number: str | int | None, error: ProtocolError) -> str:
    """Return the response to a request that failed, or to an invalid message (``number`` is None)."""
    return encode_json({"jsonrpc": "2.0", "id": number, "error": {"code": error.code, "message": error.message}})
