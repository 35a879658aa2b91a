"""The commands of trusted peers, such as proxies, which announce the client that they act for.

XCLIENT is a command of Postfix; XREMOTEIP, XDUMPCONTEXT and XSETCONTEXT are commands of Momentum.  Each is known only
if :attr:`~triosmtp.smtp.ConnectionSettings.extensions` lists it.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from triosmtp.smtp.connection_settings import TRUSTED_EXTENSIONS
from triosmtp.smtp.dialogue_state import CommandError, DialogueState
from triosmtp.smtp.parameter import decode_xtext
from triosmtp.smtp.protocol_event import Event, XClient, XDumpContext, XRemoteIP, XSetContext
from triosmtp.smtp.reply import Reply

__all__ = [
    "TRUSTED_KEYWORDS",
    "parse_xclient",
    "parse_xdumpcontext",
    "parse_xremoteip",
    "parse_xsetcontext",
]

_ATTRIBUTES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT", "REVERSE_NAME")
TRUSTED_KEYWORDS: Final = (
    ("XCLIENT", f"XCLIENT {' '.join(_ATTRIBUTES)}"),
    *((x, x) for x in sorted(TRUSTED_EXTENSIONS - {"XCLIENT"})),
)
"""Each extension with its line in the reply to EHLO."""

_MAX_VALUE = 255  # octets, as in Postfix
_ABSENT = ("[UNAVAILABLE]", "[TEMPUNAVAIL]")
_NAME = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?").fullmatch
_WORD = re.compile(r"[!-~]+").fullmatch
_PORT = re.compile(r"[0-9]{1,5}").fullmatch
_VARIABLE = re.compile(r"[A-Za-z0-9_.:-]{1,64}").fullmatch


def _malformed(text: str, reason: str) -> CommandError:
    return CommandError(Reply(501, text, "5.5.4"), reason)


def parse_xclient(line: bytes, argument: bytes, dialogue: DialogueState) -> Event:  # noqa: ARG001 - as every Parser
    """Parse XCLIENT attribute=value …, values in xtext (XCLIENT_README of Postfix)."""
    attributes: dict[str, str | None] = {}
    for key, value in _pairs(argument, "XCLIENT attribute=value ..."):
        name = key.upper()
        if name not in _ATTRIBUTES:
            raise _malformed("Unknown attribute", f"XCLIENT with {key[:40]!r}")
        if name in attributes:
            raise _malformed(f"{name} occurs twice", f"XCLIENT with {name} twice")
        if value.upper() in _ABSENT:
            attributes[name] = None
            continue
        try:
            attributes[name] = _canonical(name, decode_xtext(value) if len(value) <= _MAX_VALUE else "")
        except ValueError:
            raise _malformed(f"Bad value of {name}", f"XCLIENT with a malformed {name}") from None
    return XClient(attributes)


def _canonical(name: str, value: str) -> str:
    """Return the value in its canonical form.

    :raises ValueError: if it is malformed.
    """
    if not value or not value.isprintable():
        raise ValueError(name)
    match name:
        case "ADDR" | "DESTADDR":
            return str(_address(value))
        case "PORT" | "DESTPORT":
            good = _PORT(value) is not None and int(value) < 65_536
        case "PROTO":
            value = value.upper()
            good = value in {"SMTP", "ESMTP"}
        case "NAME" | "REVERSE_NAME":
            good = _NAME(value) is not None
        case "HELO":
            good = _WORD(value) is not None
        case _:
            good = True
    if not good:
        raise ValueError(name)
    return value


def _address(text: str) -> IPv4Address | IPv6Address:
    prefixed = text[:5].upper() == "IPV6:"
    address = ip_address(text[5:] if prefixed else text)
    if isinstance(address, IPv4Address):
        if prefixed:
            raise ValueError("an IPv4 address after IPV6:")
        return address
    if address.scope_id is not None:
        raise ValueError("a zone has no meaning on another host")
    return address.ipv4_mapped or address


def parse_xremoteip(line: bytes, argument: bytes, dialogue: DialogueState) -> Event:  # noqa: ARG001 - as every Parser
    """Parse XREMOTEIP address."""
    try:
        return XRemoteIP(_address(argument.decode("ascii").strip("[]")))
    except ValueError:
        raise _malformed("Syntax: XREMOTEIP address", "XREMOTEIP with a malformed address") from None


def parse_xdumpcontext(line: bytes, argument: bytes, dialogue: DialogueState) -> Event:  # noqa: ARG001 - as every Parser
    """Parse XDUMPCONTEXT."""
    if argument:
        raise _malformed("This command takes no argument", "argument to XDUMPCONTEXT")
    return XDumpContext()


def parse_xsetcontext(line: bytes, argument: bytes, dialogue: DialogueState) -> Event:  # noqa: ARG001 - as every Parser
    """Parse XSETCONTEXT name=value …, both in xtext."""
    values: dict[str, str] = {}
    for key, value in _pairs(argument, "XSETCONTEXT name=value ..."):
        try:
            name, text = decode_xtext(key), decode_xtext(value)
        except ValueError:
            raise _malformed("Names and values are xtext", "XSETCONTEXT with malformed xtext") from None
        if not _VARIABLE(name) or not (text.isprintable() or not text):
            raise _malformed("Bad name or value", "XSETCONTEXT with a malformed name, or a control character")
        if name in values:
            raise _malformed("A name occurs twice", f"XSETCONTEXT with {name} twice")
        values[name] = text
    return XSetContext(values)


def _pairs(argument: bytes, syntax: str) -> list[tuple[str, str]]:
    words = argument.split()
    if not words or not argument.isascii():
        raise _malformed(f"Syntax: {syntax}", "no pairs, or not ASCII")
    pairs = []
    for word in words:
        key, equals, value = word.decode("ascii").partition("=")
        if not equals or not key:
            raise _malformed(f"Syntax: {syntax}", "a word that is not a pair")
        pairs.append((key, value))
    return pairs
