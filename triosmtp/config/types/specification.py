"""Option values that are small languages of their own: extensions, banners, policies, deliveries."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from triosmtp.config.parser import Dictionary, Items, Scalar, Value
from triosmtp.config.suggestion import nearest, suggest
from triosmtp.config.types.auth_value import MECHANISMS
from triosmtp.config.types.value import (
    TEXT,
    VARIABLES,
    BadValueError,
    Type,
    Warn,
    choice,
    list_of,
    quote,
    text_of,
)

__all__ = [
    "BANNER",
    "DELIVERY",
    "EXTENSIONS",
    "FALLBACK_PHASES",
    "OF_THE_DELIVERY",
    "OF_TRUSTED_PEERS",
    "PATHWAY",
    "POLICIES",
    "RECIPIENT_FILES",
    "REPLY_421",
]

# Extensions

OF_THE_DELIVERY = ("BINARYMIME", "DSN", "REQUIRETLS", "DELIVERBY", "MT-PRIORITY", "FUTURERELEASE")
"""Extensions that are offered only if the delivery honours them."""
OF_TRUSTED_PEERS = ("XCLIENT", "XREMOTEIP", "XDUMPCONTEXT", "XSETCONTEXT")
"""Extensions with which a trusted peer announces clients."""
_OPTIONAL = ("ENHANCEDSTATUSCODES", "STARTTLS", "CHUNKING", "LIMITS", *OF_THE_DELIVERY, *OF_TRUSTED_PEERS)
_ALWAYS_OFFERED = ("PIPELINING", "8BITMIME", "SIZE", "SMTPUTF8")


def _read_extensions(value: Value, warn: Warn) -> tuple[str, ...]:
    names = []
    for each in value.values if isinstance(value, Items) else (value,):
        name = " ".join(text_of(each, "the name of an SMTP extension").upper().split())
        keyword = name.replace("=", " ", 1).partition(" ")[0]
        if keyword == "AUTH":
            names.append(_read_mechanisms(name, each, warn))
        elif name in _OPTIONAL or keyword in _ALWAYS_OFFERED:
            names.append(name)
        else:
            close = suggest(nearest(keyword, (*_OPTIONAL, "AUTH", *_ALWAYS_OFFERED)))
            known = ", ".join((*_OPTIONAL, *_ALWAYS_OFFERED))
            message = f"expected an SMTP extension ({known}), found {quote(name)}{close}"
            raise BadValueError(each.place, message)
    return tuple(names)


def _read_mechanisms(name: str, value: Value, warn: Warn) -> str:
    mechanisms = name.replace("=", " ").split()[1:]
    if not mechanisms:
        raise BadValueError(value.place, f'expected "AUTH mechanism …", of {", ".join(MECHANISMS)}')
    for each in mechanisms:
        if each not in MECHANISMS:
            close = suggest(nearest(each, MECHANISMS))
            warn(value.place, f"AUTH {each} is not offered: what is built is {', '.join(MECHANISMS)}{close}")
    return f"AUTH {' '.join(mechanisms)}"


EXTENSIONS: Type[tuple[str, ...]] = Type(
    "list of extensions", _read_extensions, list_of(TEXT, "list of extensions").write
)

# Banner


def _read_banner(value: Value, _warn: Warn) -> str:
    text = text_of(value, "a banner")
    if not text.startswith("220 ") or not text.isascii() or len(text) > 484:  # what a reply of one line may hold
        message = f"expected a banner of at most 484 ASCII characters that holds its own 220, found {quote(text)}"
        raise BadValueError(value.place, message)
    return text


BANNER = Type("banner", _read_banner, TEXT.write)

# The text of a 421

_ENHANCED = re.compile(r"(\d+)\.\d+\.\d+(?: |$)")


def _read_421(value: Value, _warn: Warn) -> str:
    text = text_of(value, "the text of a 421")
    if not text or not text.isascii() or not text.isprintable() or len(text) > 480:
        raise BadValueError(value.place, f"expected a line of at most 480 ASCII characters, found {quote(text)}")
    match = _ENHANCED.match(text)
    if match and match[1] != "4":
        raise BadValueError(value.place, f"expected an enhanced code of the class of 421, 4.x.y, found {quote(text)}")
    return text


REPLY_421 = Type("text", _read_421, TEXT.write)

# Pathway


def _read_pathway(value: Value, _warn: Warn) -> str:
    text = text_of(value, "the name of a Pathway")
    if not text:
        raise BadValueError(value.place, 'expected the name of a Pathway, found ""')
    return text


PATHWAY = Type("name of a Pathway", _read_pathway, TEXT.write)

# Policies

_POLICY = "python:package.module:Name or websocket:group"
_GROUP = re.compile(r"[A-Za-z0-9_.-]{1,64}").fullmatch


def _read_policies(value: Value, _warn: Warn) -> tuple[str, ...]:
    policies = []
    for each in value.values if isinstance(value, Items) else (value,):
        text = text_of(each, _POLICY)
        scheme, _, rest = text.partition(":")
        if scheme == "websocket" and _GROUP(rest):
            policies.append(text)
            continue
        if scheme != "python" or not _is_object(rest):
            raise BadValueError(each.place, f"expected {_POLICY}, found {quote(text)}")
        policies.append(text)
    return tuple(policies)


def _is_object(text: str) -> bool:
    """Return whether ``text`` has the form ``package.module:Name``."""
    module, _, name = text.partition(":")
    return all(map(str.isidentifier, [*module.split("."), *name.split(".")]))


POLICIES: Type[tuple[str, ...]] = Type("list of policies", _read_policies, list_of(TEXT, "list of policies").write)

_PHASES = (
    "connect", "ehlo", "starttls", "auth", "mailfrom", "rcptto", "data", "data_spool", "data_spool_each_rcpt",
)  # fmt: skip
_FALLBACK: Type[Literal["tempfail", "continue", "reject"]] = choice(("tempfail", "continue", "reject"))


def _read_fallback_phases(value: Value, warn: Warn) -> Mapping[str, Literal["tempfail", "continue", "reject"]]:
    if not isinstance(value, Dictionary):
        raise BadValueError(value.place, "expected a dictionary: [ phase = fallback … ]")
    found: dict[str, Literal["tempfail", "continue", "reject"]] = {}
    for key, each in value.entries:
        phase = key.text.lower()
        if phase not in _PHASES:
            close = suggest(nearest(phase, _PHASES))
            raise BadValueError(key.place, f"expected a phase ({', '.join(_PHASES)}), found {quote(key.text)}{close}")
        found[phase] = _FALLBACK.read(each, warn)
    return MappingProxyType(found)


FALLBACK_PHASES = Type("dictionary of fallbacks", _read_fallback_phases, VARIABLES.write)

# Deliveries

_DELIVERIES = "maildir:/path, discard: or python:package.module:function"


def _read_delivery(value: Value, _warn: Warn) -> str:
    text = text_of(value, _DELIVERIES)
    scheme, colon, rest = text.partition(":")
    if colon and ((scheme == "discard" and not rest) or (scheme == "python" and _is_object(rest))):
        return text
    if colon and scheme == "maildir" and rest:
        folder = value.place.source.folder
        return f"maildir:{Path(rest) if folder is None else folder / rest}"
    found = value.text if isinstance(value, Scalar) else ""
    schemes = ("discard:", "maildir:", "python:")
    close = "" if f"{scheme}:" in schemes else suggest(nearest(scheme, schemes))
    raise BadValueError(value.place, f"expected {_DELIVERIES}, found {quote(found)}{close}")


DELIVERY = Type("delivery", _read_delivery, TEXT.write)

# Files of recipients


def _read_recipient_file(value: Value, _warn: Warn) -> Path:
    expected = "file:/path"
    text = text_of(value, expected)
    scheme, colon, path = text.partition(":")
    if path.startswith("///"):  # as in a URI
        path = path[2:]
    if not colon or scheme.lower() != "file" or not path.strip("/"):
        raise BadValueError(value.place, f"expected {expected}, found {quote(text)}")
    folder = value.place.source.folder
    return Path(path) if folder is None else folder / path


RECIPIENT_FILES: Type[tuple[Path, ...]] = list_of(
    Type("file of recipients", _read_recipient_file, lambda value: quote(f"file:{value}")), "list of files"
)
