"""Names of servers: what a ``Server_Name`` scope is called and sets, and the one form in which domains compare."""

import re
from collections.abc import Mapping
from pathlib import Path

import attrs
import idna
from attrs import frozen

from triosmtp.config.source import Place

__all__ = ["ServerName", "ascii_domain", "parse_server_name"]

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"  # the underscore is none of RFC 1123's, and is in use
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LONGEST = 253  # RFC 1035, section 2.3.4, as it is written; idna holds to it too
_EXPECTED = "expected the name of a server, such as mx.example.org or *.example.org"


@frozen(slots=True, kw_only=True)
class ServerName:
    """What a ``Server_Name`` scope of a Listen sets.  Nothing in it falls back to the Listen."""

    name: str
    """In lower case, as A-labels; ``*.`` in front stands for one label."""
    tls_certificate: tuple[Path, ...] = ()
    tls_key: tuple[Path, ...] = ()
    tls_key_password_file: tuple[Path, ...] = ()
    tls_ocsp_response: tuple[Path, ...] = ()
    places: Mapping[str, Place] = attrs.field(factory=dict, eq=False, repr=False)
    """Field name to where its value was set."""


def ascii_domain(text: str) -> str:
    """Give a domain in lower case, as A-labels (RFC 5890).

    :raises ValueError: where it is none.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"a domain has at most {_LONGEST} characters")
    name = text.lower() if text.isascii() else idna.encode(text, uts46=True, std3_rules=True).decode("ascii")
    if _DOMAIN.fullmatch(name) is None:
        raise ValueError("not a domain")
    return name


def parse_server_name(text: str) -> str:
    """Give the name that a ``Server_Name`` scope is chosen by.

    :raises ValueError: where the text is none; the error tells what was expected.
    """
    wildcard = text.startswith("*.")
    rest = text.removeprefix("*.")
    if "*" in rest:
        raise ValueError(f"a wildcard is the whole left-most label: {_EXPECTED}, found {_quoted(text)}")
    try:
        name = ascii_domain(rest)
    except ValueError as error:  # idna's errors are among them
        raise ValueError(f"{_EXPECTED}, found {_quoted(text)}") from error
    if name.rpartition(".")[2].isdigit():
        raise ValueError(f"clients ask by name, never by address (RFC 6066): {_EXPECTED}, found {_quoted(text)}")
    return f"*.{name}" if wildcard else name


def _quoted(text: str) -> str:
    return f'"{text if len(text) <= 64 else text[:64] + "…"}"'
