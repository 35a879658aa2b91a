"""The address of a filter, as ``policyd:unix:/run/postgrey.sock``, and the form of a Filter's name."""

import re
from pathlib import Path

from attrs import frozen

from triosmtp.config.types.policy_grammar import ADDRESS_SCHEMES, SOCKET_SCHEMES, forms_of

__all__ = ["MAX_SOCKET_PATH", "FilterAddress", "is_filter_name", "parse_filter_address"]

MAX_SOCKET_PATH = 107
"""Octets of the address of a Unix socket, without its zero (unix(7))."""
_INET = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253})):([0-9]{1,5})").fullmatch
_MILTER_INET = re.compile(r"([0-9]{1,5})@(.+)").fullmatch  # as Sendmail names milters
_FILTER_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}").fullmatch


@frozen(slots=True)
class FilterAddress:
    """The address of a filter: the Unix socket ``path``, or if that is ``""``, a port of a host."""

    scheme: str
    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.path:
            return f"{self.scheme}:unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}:inet:{host}:{self.port}"


def is_filter_name(text: str) -> bool:
    """Return whether ``text`` can name a Filter scope, or a group of policy clients."""
    return _FILTER_NAME(text) is not None


def parse_filter_address(text: str, folder: Path | None = None) -> FilterAddress:
    """Read an address.  A path that does not begin with ``/`` is in ``folder``.

    :raises ValueError: if ``text`` is no address of a filter; the text says what was expected.
    """
    scheme, _, rest = text.partition(":")
    kind, _, where = rest.partition(":")
    known = scheme in SOCKET_SCHEMES
    if known and kind == "unix" and where:
        path = where if folder is None else str(folder / where)
        if "\0" in path or len(path.encode("utf-8", "surrogateescape")) > MAX_SOCKET_PATH:
            raise ValueError(f'expected a path of a Unix socket, at most {MAX_SOCKET_PATH} octets, found "{path}"')
        return FilterAddress(scheme, path=path)
    match = _INET(where) if known and kind == "inet" else None
    if match is not None and 0 < int(match[3]) < 65536:
        return FilterAddress(scheme, host=match[1] or match[2], port=int(match[3]))
    message = f'expected {forms_of((scheme,) if known else ADDRESS_SCHEMES)}, found "{text}"'
    swapped = _MILTER_INET(where) if known and kind == "inet" else None
    raise ValueError(
        message if swapped is None else f"{message}, did you mean {scheme}:inet:{swapped[2]}:{swapped[1]}?"
    )
