"""The parameters of MAIL and RCPT (RFC 5321, section 4.1.2) and the check of each value.

A parameter of an extension that is not offered is unknown: 555 with its name (section 4.1.1.11).
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, TypeAlias

from triosmtp.smtp.dialogue_state import CommandError, DialogueState
from triosmtp.smtp.reply import Reply

__all__ = ["MAIL_PARAMETERS", "RCPT_PARAMETERS", "Parameters", "decode_orcpt", "decode_xtext", "parse_parameters"]

MAX_PARAMETER_SHOWN = 40
MAX_ENVID = 100  # characters; RFC 3461, section 4.4
MAX_ORCPT = 500  # section 4.2

_BAD_PARAMETER = Reply(501, "Malformed parameter", "5.5.4")
_TOO_BIG = Reply(552, "Message size exceeds the fixed limit", "5.3.4")

_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^\x00- =]+))?")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_XCHAR = re.compile(r"\+([0-9A-F]{2})")
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")
_EMBEDDED = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
_BY = re.compile(r"([+-]?[0-9]{1,9});([NR])(T?)", re.ASCII | re.IGNORECASE)
_PRIORITY = re.compile(r"-?[0-9]")
_HOLD = re.compile(r"[0-9]{1,9}")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)

Parameters: TypeAlias = Mapping[str, str | None]
"""ESMTP parameters: upper-case keyword to value, None if there was no ``=``."""
Check = Callable[[str | None, DialogueState], str | None]
"""A function of the value and the dialogue's state.  It returns the canonical value or raises :class:`CommandError`."""


def parse_parameters(rest: bytes, known: Mapping[str, tuple[str, Check]], dialogue: DialogueState) -> Parameters:
    """Parse ``KEYWORD[=value] …``.  Each keyword must be known and offered, and may occur once.

    :raises CommandError: for the first parameter that is not accepted.
    """
    parameters: dict[str, str | None] = {}
    try:
        words = rest.decode("utf-8").split(" ")
    except UnicodeDecodeError:
        raise CommandError(_BAD_PARAMETER, "parameters are not UTF-8") from None
    if "SMTPUTF8" in known and "SMTPUTF8" in map(_upper, words):
        dialogue.smtputf8 = dialogue.esmtp  # it may follow a parameter that it allows to be UTF-8
    for word in filter(None, words):
        match = _PARAMETER.fullmatch(word)
        if match is None:
            raise CommandError(_BAD_PARAMETER, "malformed parameter")
        keyword, value = match[1].upper(), match[2]
        extension, check = known.get(keyword, ("", None))
        if check is None or not dialogue.esmtp or (extension and not dialogue.offers(extension)):
            shown = keyword[:MAX_PARAMETER_SHOWN]
            raise CommandError(Reply(555, f"Unsupported parameter: {shown}", "5.5.4"), f"parameter {shown}")
        if keyword in parameters:
            raise CommandError(_BAD_PARAMETER, f"{keyword} occurs twice")
        parameters[keyword] = check(value, dialogue)
    if "HOLDFOR" in parameters and "HOLDUNTIL" in parameters:
        raise CommandError(_BAD_PARAMETER, "HOLDFOR and HOLDUNTIL exclude each other (RFC 4865, section 5)")
    return parameters


def decode_xtext(text: str) -> str:
    """Decode xtext (RFC 3461, section 4): ``+HH`` is an octet.  Octets that are not UTF-8 become U+FFFD.

    :raises ValueError: if the text is not xtext.
    """
    if not _XTEXT.fullmatch(text):
        raise ValueError("not xtext")
    octets = _XCHAR.sub(lambda match: chr(int(match[1], 16)), text).encode("latin-1")
    return octets.decode("utf-8", "replace")


def _is_xtext(text: str, *, ascii_only: bool = True) -> bool:
    """Return whether a text is xtext of printable octets (RFC 3461, sections 4.2 and 4.4); AUTH= may be UTF-8."""
    if not _XTEXT.fullmatch(text):
        return False
    octets = (int(each, 16) for each in _XCHAR.findall(text))
    return all(0x20 <= octet < 0x7F or (octet > 0x7F and not ascii_only) for octet in octets)


def decode_orcpt(value: str) -> tuple[str, str]:
    """Return address type and address of an ORCPT (RFC 3461, section 4.2; type ``utf-8``: RFC 6533, section 3)."""
    kind, _, address = value.partition(";")
    kind = kind.lower()
    if kind == "utf-8":
        return kind, _EMBEDDED.sub(lambda match: chr(int(match[1], 16)), address)
    return kind, decode_xtext(address)


def _upper(value: str | None) -> str:
    """Return an ASCII value in upper case, else "", since ``str.upper`` turns some other characters into ASCII."""
    return value.upper() if value is not None and value.isascii() else ""


def _refuse(text: str, reason: str) -> CommandError:
    return CommandError(Reply(501, text, "5.5.4"), reason)


def _body(value: str | None, dialogue: DialogueState) -> str:
    """Check BODY= (RFC 6152; BINARYMIME: RFC 3030, section 3)."""
    body = _upper(value)
    binary = dialogue.offers("BINARYMIME") and dialogue.offers("CHUNKING")
    if body in {"7BIT", "8BITMIME"} or (body == "BINARYMIME" and binary):
        return body
    raise _refuse(f"BODY is 7BIT{', 8BITMIME or BINARYMIME' if binary else ' or 8BITMIME'}", "unknown BODY")


def _size(value: str | None, dialogue: DialogueState) -> str:
    """Check SIZE= (RFC 1870)."""
    if value is None or not (value.isascii() and value.isdigit() and len(value) <= 20):
        raise _refuse("SIZE is a number of octets", "malformed SIZE")
    limit = dialogue.settings.max_message_size
    if 0 < limit < int(value):
        raise CommandError(_TOO_BIG, f"SIZE={value} announced, {limit} allowed")
    return value


def _auth(value: str | None, dialogue: DialogueState) -> str:  # noqa: ARG001 - as every check
    """Check AUTH= (RFC 4954, section 5): the submitter of the message in xtext, or ``<>`` if unknown."""
    if value != "<>" and (not value or len(value) > MAX_ORCPT or not _is_xtext(value, ascii_only=False)):
        raise _refuse("AUTH is a mailbox in xtext, or <>", "malformed AUTH=")
    return value


def _no_value(keyword: str) -> Check:
    def check(value: str | None, dialogue: DialogueState) -> None:  # noqa: ARG001 - as every check
        if value is not None:
            raise _refuse(f"{keyword} takes no value", f"{keyword} with a value")

    return check


def _ret(value: str | None, dialogue: DialogueState) -> str:  # noqa: ARG001 - as every check
    """Check RET= (RFC 3461, section 4.3)."""
    ret = _upper(value)
    if ret not in {"FULL", "HDRS"}:
        raise _refuse("RET is FULL or HDRS", "unknown RET")
    return ret


def _envid(value: str | None, dialogue: DialogueState) -> str:  # noqa: ARG001 - as every check
    """Check ENVID= (RFC 3461, section 4.4): xtext, which stays encoded."""
    if value is None or len(value) > MAX_ENVID or not _is_xtext(value):
        raise _refuse(f"ENVID is printable ASCII in xtext, at most {MAX_ENVID} characters", "malformed ENVID")
    return value


def _notify(value: str | None, dialogue: DialogueState) -> str:  # noqa: ARG001 - as every check
    """Check NOTIFY= (RFC 3461, section 4.1)."""
    words = _upper(value).split(",")
    if words != ["NEVER"] and (len(set(words)) != len(words) or not {"SUCCESS", "FAILURE", "DELAY"}.issuperset(words)):
        raise _refuse("NOTIFY is NEVER, or some of SUCCESS, FAILURE, DELAY", "malformed NOTIFY")
    return ",".join(words)


def _orcpt(value: str | None, dialogue: DialogueState) -> str:
    """Check ORCPT= (RFC 3461, section 4.2; RFC 6533, section 3): the address stays encoded."""
    kind, semicolon, address = (value or "").partition(";")
    if semicolon and address and _ADDRESS_TYPE.fullmatch(kind) and len(value or "") <= MAX_ORCPT:
        if kind.lower() != "utf-8":
            fine = _is_xtext(address)
        else:
            # Other characters than ASCII need SMTPUTF8, or are embedded as \x{HEX}.
            fine = (dialogue.smtputf8 or address.isascii()) and address.isprintable() and _scalars(address)
        if fine:
            return f"{kind};{address}"
    raise _refuse("ORCPT is type;address, the address printable and in xtext", "malformed ORCPT")


def _scalars(address: str) -> bool:
    r"""Return whether each ``\x{HEX}`` is a character, and no ``+HH`` is a control character if decoded as xtext."""
    if "\\" in _EMBEDDED.sub("", address) or not all(0x20 <= int(each, 16) != 0x7F for each in _XCHAR.findall(address)):
        return False
    found = (int(match, 16) for match in _EMBEDDED.findall(address))
    return all(0x20 <= each < 0x7F or 0x9F < each < 0xD800 or 0xDFFF < each <= 0x10FFFF for each in found)


def _by(value: str | None, dialogue: DialogueState) -> str:  # noqa: ARG001 - as every check
    """Check BY= (RFC 2852, section 4): seconds, mode, trace."""
    match = _BY.fullmatch(value or "")
    if match is None:
        raise _refuse("BY is seconds;N or seconds;R, with T for a trace", "malformed BY")
    if match[2].upper() == "R" and int(match[1]) <= 0:
        raise _refuse("BY in mode R needs a time above 0", "BY in the past")
    return f"{int(match[1])};{match[2].upper()}{match[3].upper()}"


def _mt_priority(value: str | None, dialogue: DialogueState) -> str:  # noqa: ARG001 - as every check
    """Check MT-PRIORITY= (RFC 6710, section 4.1)."""
    if value is None or not _PRIORITY.fullmatch(value) or value == "-0":
        raise _refuse("MT-PRIORITY is a number from -9 to 9", "malformed MT-PRIORITY")
    return value


def _holdfor(value: str | None, dialogue: DialogueState) -> str:
    """Check HOLDFOR= (RFC 4865, section 5): seconds."""
    limit = dialogue.settings.max_hold
    if value is None or not _HOLD.fullmatch(value) or not 0 < int(value) <= limit:
        raise _refuse(f"HOLDFOR is a number of seconds, at most {limit}", "malformed HOLDFOR")
    return value


def _holduntil(value: str | None, dialogue: DialogueState) -> str:  # noqa: ARG001 - as every check
    """Check HOLDUNTIL= (RFC 4865, section 5): a date and time of RFC 3339, with its zone."""
    try:
        moment = _RFC3339.fullmatch(value or "") and datetime.fromisoformat((value or "").upper()).astimezone(UTC)
    except (ValueError, OverflowError):  # no such day, or one after the year 9999
        moment = None
    if value is None or moment is None:
        raise _refuse("HOLDUNTIL is a date and time as in 2030-01-31T12:00:00Z", "malformed HOLDUNTIL")
    return value.upper()


MAIL_PARAMETERS: Final[Mapping[str, tuple[str, Check]]] = MappingProxyType(
    {
        "BODY": ("", _body),
        "SIZE": ("", _size),
        "AUTH": ("AUTH", _auth),
        "SMTPUTF8": ("", _no_value("SMTPUTF8")),
        "RET": ("DSN", _ret),
        "ENVID": ("DSN", _envid),
        "REQUIRETLS": ("REQUIRETLS", _no_value("REQUIRETLS")),
        "BY": ("DELIVERBY", _by),
        "MT-PRIORITY": ("MT-PRIORITY", _mt_priority),
        "HOLDFOR": ("FUTURERELEASE", _holdfor),
        "HOLDUNTIL": ("FUTURERELEASE", _holduntil),
    }
)
"""The parameters of MAIL, with the extension if it is not always offered, and the check."""
RCPT_PARAMETERS: Final[Mapping[str, tuple[str, Check]]] = MappingProxyType(
    {"NOTIFY": ("DSN", _notify), "ORCPT": ("DSN", _orcpt)}
)
"""The parameters of RCPT, in the same form."""
