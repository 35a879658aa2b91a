"""The types of options of the SMTP dialogue: extensions, the banner, the text of reply 421."""

import re

from triosmtp.config.parser import Items, Value
from triosmtp.config.suggestion import nearest, suggest
from triosmtp.config.types.auth_parameters import MECHANISMS, SERVICE_MECHANISMS
from triosmtp.config.types.option_type import (
    TEXT,
    BadValueError,
    OptionType,
    Warn,
    list_of,
    quote,
    text_of,
)

__all__ = [
    "BANNER",
    "DELIVERY_EXTENSIONS",
    "EXTENSIONS",
    "REPLY_421",
    "TRUSTED_PEER_EXTENSIONS",
]

# Extensions

DELIVERY_EXTENSIONS = ("BINARYMIME", "DSN", "REQUIRETLS", "DELIVERBY", "MT-PRIORITY", "FUTURERELEASE")
"""Extensions that are offered only if the delivery honours them."""
TRUSTED_PEER_EXTENSIONS = ("XCLIENT", "XREMOTEIP", "XDUMPCONTEXT", "XSETCONTEXT")
"""Extensions with which a trusted peer announces clients."""
_OPTIONAL = ("ENHANCEDSTATUSCODES", "STARTTLS", "CHUNKING", "LIMITS", *DELIVERY_EXTENSIONS, *TRUSTED_PEER_EXTENSIONS)
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
        if each not in MECHANISMS and each not in SERVICE_MECHANISMS:
            close = suggest(nearest(each, (*MECHANISMS, *SERVICE_MECHANISMS)))
            warn(value.place, f"AUTH {each} is not offered: what is built is {', '.join(MECHANISMS)}{close}")
    return f"AUTH {' '.join(mechanisms)}"


EXTENSIONS: OptionType[tuple[str, ...]] = OptionType(
    "list of extensions", _read_extensions, list_of(TEXT, "list of extensions").write
)

# Banner


def _read_banner(value: Value, _warn: Warn) -> str:
    text = text_of(value, "a banner")
    if not text.startswith("220 ") or not text.isascii() or len(text) > 484:  # what a reply of one line may hold
        message = f"expected a banner of at most 484 ASCII characters that holds its own 220, found {quote(text)}"
        raise BadValueError(value.place, message)
    return text


BANNER = OptionType("banner", _read_banner, TEXT.write)

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


REPLY_421 = OptionType("text", _read_421, TEXT.write)
