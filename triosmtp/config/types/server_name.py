"""Names of servers: what a ``Server_Name`` scope is called and sets."""

from collections.abc import Mapping
from pathlib import Path

import attrs
from attrs import frozen

from triosmtp.config.source import Place
from triosmtp.domain import DomainError, name_key

__all__ = ["ServerName", "parse_server_name"]

_EXPECTED = "expected the name of a server, such as mx.example.org or *.example.org"


@frozen(slots=True, kw_only=True)
class ServerName:
    """The settings of a ``Server_Name`` scope of a Listen.  Nothing in it falls back to the Listen."""

    name: str
    """In lower case, as A-labels; ``*.`` in front stands for one label."""
    tls_certificate: tuple[Path, ...] = ()
    tls_key: tuple[Path, ...] = ()
    tls_key_password_file: tuple[Path, ...] = ()
    tls_ocsp_response: tuple[Path, ...] = ()
    places: Mapping[str, Place] = attrs.field(factory=dict, eq=False, repr=False)
    """Field name to where its value was set."""


def parse_server_name(text: str) -> str:
    """Return the name that a ``Server_Name`` scope is chosen by.

    :raises ValueError: if the text is no name; the error says what was expected.
    """
    wildcard = text.startswith("*.")
    rest = text.removeprefix("*.")
    if "*" in rest:
        raise ValueError(f"a wildcard is the whole left-most label: {_EXPECTED}, found {_quoted(text)}")
    try:
        name = name_key(rest)
    except DomainError as error:
        raise ValueError(f"{_EXPECTED}, found {_quoted(text)}") from error
    if name.rpartition(".")[2].isdigit():
        raise ValueError(f"clients ask by name, never by address (RFC 6066): {_EXPECTED}, found {_quoted(text)}")
    return f"*.{name}" if wildcard else name


def _quoted(text: str) -> str:
    return f'"{text if len(text) <= 64 else text[:64] + "…"}"'
