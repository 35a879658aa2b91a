"""Commands as a client sends them.

Each function returns one line, regardless of its arguments; :func:`client_attributes` returns several.  An argument
that would make another command out of the line, or another path out of an address, is an error.
"""

import base64
import re
from collections.abc import Iterable, Mapping
from typing import Final

from triosmtp.errors import TrioSMTPError
from triosmtp.smtp.mail_address import PLAIN_PATH, Address, PathError, parse_path

__all__ = [
    "CommandLineError",
    "auth_command",
    "auth_response",
    "bdat_command",
    "client_attributes",
    "encode_xtext",
    "hello_command",
    "mail_command",
    "rcpt_command",
]  # fmt: skip

MAX_ATTRIBUTE_LINE: Final = 512
"""Octets of a line of XFORWARD or XCLIENT with its CRLF (RFC 5321, section 4.5.3.1.4)."""
MAX_ATTRIBUTE: Final = 255
"""Octets of an attribute's value in xtext, as in Postfix."""

_WORD = re.compile(r"[!-~]{1,255}").fullmatch
_KEYWORD = re.compile(r"[A-Z0-9][A-Z0-9-]*").fullmatch
_VALUE = re.compile(r"[^\x00-\x20=\x7f-\x9f\u2028\u2029]+").fullmatch
_PLAIN = re.compile(PLAIN_PATH).fullmatch
_TO_ENCODE = re.compile(rb"[^!-*,-<>-~]")
_MAX_PATH = 4096


class CommandLineError(TrioSMTPError, ValueError):
    """An argument that cannot be sent in a command."""


def hello_command(verb: str, name: str) -> bytes:
    """Return EHLO, HELO or LHLO with our name, a domain or an address literal.

    :raises CommandLineError: if the name is not one word of ASCII.
    """
    if not _WORD(name):
        raise CommandLineError(f"{verb} with the name {name[:80]!r}")
    return f"{verb} {name}\r\n".encode("ascii")


def mail_command(sender: Address, parameters: Mapping[str, str | None]) -> bytes:
    """Return MAIL.

    :raises CommandLineError: if the address or a parameter cannot be sent.
    """
    return b"MAIL FROM:" + _path(sender, forward=False) + _parameters(parameters)


def rcpt_command(recipient: Address, parameters: Mapping[str, str | None]) -> bytes:
    """Return RCPT.

    :raises CommandLineError: if the address or a parameter cannot be sent.
    """
    return b"RCPT TO:" + _path(recipient, forward=True) + _parameters(parameters)


def bdat_command(size: int, *, last: bool) -> bytes:
    """Return BDAT (RFC 3030, section 2) for a chunk of ``size`` octets."""
    return b"BDAT %d%s\r\n" % (size, b" LAST" if last else b"")


def auth_command(mechanism: str, initial: bytes | None) -> bytes:
    """Return AUTH, with the initial response if there is one: ``=`` stands for an empty one (RFC 4954, section 4).

    :raises CommandLineError: if the mechanism is not one word of ASCII.
    """
    if not _WORD(mechanism):
        raise CommandLineError(f"AUTH {mechanism[:80]!r}")
    if initial is None:
        return f"AUTH {mechanism}\r\n".encode("ascii")
    return f"AUTH {mechanism} ".encode("ascii") + (base64.b64encode(initial) or b"=") + b"\r\n"


def auth_response(response: bytes | None) -> bytes:
    """Return the response to a challenge of AUTH; None cancels the exchange."""
    return b"*\r\n" if response is None else base64.b64encode(response) + b"\r\n"


def encode_xtext(text: str) -> str:
    """Encode a text as xtext (RFC 3461, section 4): every octet that is not printable ASCII, and ``+`` and ``=``."""
    return _TO_ENCODE.sub(lambda match: b"+%02X" % match[0][0], text.encode("utf-8")).decode("ascii")


def client_attributes(verb: str, attributes: Mapping[str, str | None], offered: Iterable[str]) -> list[bytes]:
    """Return the lines of XCLIENT or XFORWARD for those ``attributes`` that the server ``offered``.

    An attribute that is None, empty or too long becomes ``[UNAVAILABLE]`` (XCLIENT_README of Postfix).  A line
    has at most 512 octets, so that several may be needed.
    """
    lines: list[bytes] = []
    words = b""
    known = {each.upper() for each in offered}
    for name, value in attributes.items():
        if name not in known:
            continue
        encoded = encode_xtext(value) if value else ""
        if not 0 < len(encoded) <= MAX_ATTRIBUTE:
            encoded = "[UNAVAILABLE]"
        word = f" {name}={encoded}".encode("ascii")
        if words and len(verb) + len(words) + len(word) + 2 > MAX_ATTRIBUTE_LINE:
            lines.append(verb.encode("ascii") + words + b"\r\n")
            words = b""
        words += word
    if words:
        lines.append(verb.encode("ascii") + words + b"\r\n")
    return lines


def _path(address: Address, *, forward: bool) -> bytes:
    """Return the path of an address with ``<`` and ``>``: it must parse as the same address."""
    path = f"<{address.text}>"
    if not _PLAIN(path):
        try:
            encoded = path.encode("utf-8")
            same = len(encoded) <= _MAX_PATH and parse_path(encoded, utf8=True, forward=forward) == address
        except (PathError, UnicodeEncodeError):
            same = False
        if not same:
            raise CommandLineError(f"the address {address.text[:80]!r} cannot be sent")
    return path.encode("utf-8")


def _parameters(parameters: Mapping[str, str | None]) -> bytes:
    words = []
    for keyword, value in parameters.items():
        if not _KEYWORD(keyword) or not (value is None or _VALUE(value)):
            raise CommandLineError(f"the parameter {keyword[:40]!r} cannot be sent with the value {str(value)[:80]!r}")
        words.append(f" {keyword}" if value is None else f" {keyword}={value}")
    try:
        return "".join(words).encode("utf-8") + b"\r\n"
    except UnicodeEncodeError:
        raise CommandLineError("a parameter holds a character that UTF-8 cannot encode") from None
