"""Codecs of scripts: ``base64``, ``qp``, ``idn`` and ``json``."""

import binascii
import json
import quopri
from typing import Any, Final

import idna

from triosmtp.errors import TrioSMTPError

__all__ = [
    "CodecError", "decode_base64", "decode_json", "decode_qp", "encode_base64", "encode_json", "encode_qp", "to_idn",
    "to_utf8",
]  # fmt: skip

MAX_JSON: Final = 1024 * 1024
"""Octets of a text of JSON."""
_MAX_DEPTH: Final = 64
_EXACT_DIGITS: Final = 16
_MAX_NAME: Final = 1024


class CodecError(TrioSMTPError, ValueError):
    """Input that cannot be decoded or encoded."""


def encode_base64(data: bytes) -> bytes:
    """Encode without line ends."""
    return binascii.b2a_base64(data, newline=False)


def decode_base64(text: bytes) -> bytes:
    """Decode; characters outside of the alphabet are ignored (RFC 2045, section 6.8).

    :raises CodecError: if the padding is wrong.
    """
    try:
        return binascii.a2b_base64(text)
    except binascii.Error as error:
        raise CodecError(str(error)) from None


def encode_qp(data: bytes) -> bytes:
    """Encode as quoted-printable (RFC 2045, section 6.7)."""
    return quopri.encodestring(data)


def decode_qp(text: bytes) -> bytes:
    """Decode quoted-printable."""
    return quopri.decodestring(text)


def to_idn(name: str) -> str:
    """Return a domain with its U-labels as A-labels (RFC 5891).

    :raises CodecError: if it is not a domain.
    """
    if len(name) > _MAX_NAME:
        raise CodecError("the name is too long")
    try:
        return ".".join(each if each.isascii() else idna.alabel(each.lower()).decode() for each in name.split("."))
    except ValueError as error:
        raise CodecError(str(error)) from None


def to_utf8(name: str) -> str:
    """Return a domain with its A-labels as U-labels.

    :raises CodecError: if it is not a domain.
    """
    if len(name) > _MAX_NAME:
        raise CodecError("the name is too long")
    try:
        return ".".join(idna.ulabel(each) if each.lower().startswith("xn--") else each for each in name.split("."))
    except ValueError as error:
        raise CodecError(str(error)) from None


def decode_json(text: bytes) -> Any:
    """Decode a text of JSON.

    :raises CodecError: if it is malformed, too long or too deep.
    """
    if len(text) > MAX_JSON:
        raise CodecError(f"longer than {MAX_JSON} octets")
    try:
        return json.loads(text.decode("utf-8", "replace"), parse_int=_number)
    except (ValueError, RecursionError) as error:
        raise CodecError(str(error)) from None


def _number(digits: str) -> int | float:
    """Return a whole number as Lua has it: a large one loses digits."""
    return int(digits) if len(digits) < _EXACT_DIGITS else float(digits)


def encode_json(value: Any, depth: int = 0) -> bytes:
    """Encode dicts, lists, texts as bytes, numbers, booleans and None.

    :raises CodecError: if something else is in it, or if it is too deep.
    """
    if depth > _MAX_DEPTH:
        raise CodecError("too deep")
    match value:
        case bytes():
            return json.dumps(value.decode("utf-8", "replace")).encode("ascii")
        case None | bool() | int() | float() | str():
            return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value).encode("ascii")
        case list() | tuple():
            return b"[" + b",".join(encode_json(each, depth + 1) for each in value) + b"]"
        case dict():
            pairs = [encode_json(_key(key)) + b":" + encode_json(each, depth + 1) for key, each in value.items()]
            return b"{" + b",".join(pairs) + b"}"
    raise CodecError(f"a {type(value).__name__} cannot be encoded")


def _key(key: object) -> bytes:
    if isinstance(key, bytes):
        return key
    return str(int(key) if isinstance(key, float) and key.is_integer() else key).encode("utf-8")
