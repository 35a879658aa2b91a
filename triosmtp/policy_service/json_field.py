"""Fields of JSON objects that a client sent: each function returns a checked value, or names the field in its error."""

from collections.abc import Mapping
from typing import Any

from triosmtp.policy_service.json_rpc import MAX_ENTRIES, ErrorCode, ProtocolError

__all__ = ["invalid_field", "is_encodable", "read_boolean", "read_choice", "read_strings", "read_text"]


def invalid_field(name: str, expected: str) -> ProtocolError:
    """Return the error for a field: its name, and the value that is expected."""
    return ProtocolError(ErrorCode.INVALID_PARAMS, f"{name}: {expected}")


def is_encodable(value: str) -> bool:
    """Return whether ``value`` can be encoded as UTF-8: JSON also allows lone surrogates."""
    return value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value)


def read_text(params: Mapping[str, Any], name: str, default: str | None) -> str:
    """Return a string; None as ``default`` makes the field mandatory.

    :raises ProtocolError: if it is another type.
    """
    value = params.get(name, default)
    if not isinstance(value, str):
        raise invalid_field(name, "expected a string")
    return value


def read_boolean(params: Mapping[str, Any], name: str) -> bool:
    """Return true or false (the default).

    :raises ProtocolError: if it is another type.
    """
    value = params.get(name, False)
    if not isinstance(value, bool):
        raise invalid_field(name, "expected true or false")
    return value


def read_choice(params: Mapping[str, Any], name: str, words: tuple[str, ...], default: str | None) -> str:
    """Return one of ``words``; None as ``default`` makes the field mandatory.

    :raises ProtocolError: if it is another value.
    """
    value = params.get(name, default)
    if not isinstance(value, str) or value not in words:
        raise invalid_field(name, f"expected one of {', '.join(words)}")
    return value


def read_strings(params: Mapping[str, Any], name: str, default: Any) -> Any:
    """Return a list of strings as a tuple, or ``default`` as it is.

    :raises ProtocolError: if it is another type, is too long, or contains a string that is empty or too long.
    """
    value = params.get(name, default)
    if value is default:
        return default
    fits = isinstance(value, list) and len(value) <= MAX_ENTRIES
    if not fits or not all(isinstance(each, str) and 0 < len(each) <= MAX_ENTRIES for each in value):
        raise invalid_field(name, f"expected a list of at most {MAX_ENTRIES} strings")
    return tuple(value)
