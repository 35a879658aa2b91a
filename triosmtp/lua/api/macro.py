"""``msys.expandMacro``: ``%{vctx_conn:key}``, ``%{vctx_mess:key}``, ``%{spfv1:d2r}``, ``%{rfc822:date}``, ``%{i}``."""

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import format_datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from attrs import frozen

__all__ = ["MacroValues", "expand_macro"]

_MACRO: Final = re.compile(r"%\{([^{}]{1,256})\}|%%")
_SPF: Final = re.compile(r"([slodipvhct])(\d{0,3})(r?)([.\-+,/_=]*)", re.IGNORECASE)
_MAX_LENGTH: Final = 1024 * 1024  # characters of a result


@frozen(slots=True, kw_only=True)
class MacroValues:
    """The values that macros stand for."""

    connection: Mapping[str, str]
    message: Mapping[str, str]
    address: IPv4Address | IPv6Address | None
    helo: str
    sender: tuple[str, str]
    """Local part and domain; two empty texts for the null path."""
    now: datetime


def expand_macro(text: str, values: MacroValues) -> str:
    """Return ``text`` with its macros expanded; ``%%`` is a percent sign, and an unknown macro stays as it is.

    :raises ValueError: if the result is too long.
    """
    parts, done, size = [], 0, len(text)
    for found in _MACRO.finditer(text):
        expanded = "%" if found[1] is None else _value(found[1], values)
        expanded = found[0] if expanded is None else expanded
        size += len(expanded)
        if size > _MAX_LENGTH:
            raise ValueError("the expanded text is too long")
        parts += [text[done : found.start()], expanded]
        done = found.end()
    return "".join([*parts, text[done:]])


def _value(macro: str, values: MacroValues) -> str | None:
    space, colon, name = macro.partition(":")
    if not colon:
        return str(values.address or "") if macro.lower() == "i" else None
    match space.lower():
        case "vctx_conn":
            return values.connection.get(name, "")
        case "vctx_mess":
            return values.message.get(name, "")
        case "rfc822":
            return format_datetime(values.now) if name.lower() == "date" else None
        case "spfv1":
            return _spf(name, values)
    return None


def _spf(text: str, values: MacroValues) -> str | None:
    """Expand a macro of SPF (RFC 7208, section 7)."""
    found = _SPF.fullmatch(text)
    if found is None or (found[2] and not int(found[2])):
        return None
    local, domain = values.sender
    local, domain = (local or "postmaster", domain or values.helo) if not (local and domain) else (local, domain)
    address = values.address
    version = 4 if address is None else address.version
    value = {
        "s": f"{local}@{domain}",
        "l": local,
        "o": domain,
        "d": domain,
        "i": _dotted(address),
        "c": str(address or ""),
        "p": "unknown",  # nothing looks up the name of the peer
        "v": "in-addr" if version == 4 else "ip6",
        "h": values.helo,
        "t": str(int(values.now.timestamp())),
    }[found[1].lower()]
    if not (found[2] or found[3] or found[4]):
        return value
    parts = re.split(f"[{re.escape(found[4] or '.')}]", value)
    if found[3]:
        parts.reverse()
    return ".".join(parts[-int(found[2]) :] if found[2] else parts)


def _dotted(address: IPv4Address | IPv6Address | None) -> str:
    if isinstance(address, IPv6Address):
        return ".".join(address.exploded.replace(":", ""))
    return str(address or "")
