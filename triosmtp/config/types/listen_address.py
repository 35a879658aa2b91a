"""The addresses of Listen scopes."""

import re
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from attrs import frozen

__all__ = ["ListenAddress", "TCPAddress", "UnixAddress", "parse_address"]

_LONGEST_PATH = 107  # bytes: sun_path of unix(7), less its NUL
_FORMS = '":25", "*:25", "[*]:25", "127.0.0.1:25", "[::1]:25" or "/path/of/a/socket"'


@frozen(slots=True)
class TCPAddress:
    """A TCP address to listen on.

    ``host`` None is every address: with ``ipv6`` only the IPv6 ones, else the IPv4 ones.  The latter include IPv6 if
    the kernel maps them and no other Listen has that port.  Port 0 picks a free port.
    """

    host: str | None
    port: int
    ipv6: bool = False

    @property
    def is_wildcard(self) -> bool:
        """Whether it is for all addresses."""
        return self.host in {None, "0.0.0.0"}  # noqa: S104 - compared, not bound

    def overlaps(self, other: "TCPAddress") -> bool:
        """Return whether only one socket can have both: one is for all addresses of the other's family."""
        if self.port != other.port or self.port == 0 or self.ipv6 != other.ipv6:
            return False  # a wildcard leaves IPv6 to Listens that name it
        return self.is_wildcard or other.is_wildcard

    def accepts(self, other: "TCPAddress") -> bool:
        """Return whether a connection to ``other`` would be accepted here."""
        if self.port != other.port:
            return False
        if self.host is None:
            return not self.ipv6 or other.ipv6
        if self.host == "0.0.0.0":  # noqa: S104 - compared, not bound
            return not other.ipv6
        return self.host == other.host


@frozen(slots=True)
class UnixAddress:
    """A Unix socket to listen on: its absolute path, and the mode that it gets."""

    path: str
    mode: int = 0o660


ListenAddress = TCPAddress | UnixAddress


def parse_address(text: str, folder: Path | None = None) -> ListenAddress:
    """Return the address that a Listen's name means; a relative path (``./…``) is meant from ``folder``.

    :raises ValueError: if it is none; the text says what was expected.
    """
    if text.startswith(("/", "./", "../")):
        return _unix(text, folder)
    match = re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]*):([0-9]{1,5})", text)
    if match is None:
        raise ValueError(_hint(text))
    port = int(match[2])
    if port > 65535:
        raise ValueError(f"expected a port from 0 to 65535, found {port}")
    host = match[1]
    if host in {"", "*"}:
        return TCPAddress(None, port)
    if host.startswith("["):
        return _ipv6(host[1:-1], port)
    try:
        return TCPAddress(str(IPv4Address(host)), port)
    except ValueError as error:
        raise ValueError(
            f"expected an IPv4 address (a host name will not do) before the port, found {host!r}"
        ) from error


def _unix(text: str, folder: Path | None) -> UnixAddress:
    path = str(Path(text) if folder is None else folder / text)
    if len(path.encode()) > _LONGEST_PATH:
        raise ValueError(f"the path of a Unix socket has at most {_LONGEST_PATH} bytes, this one {len(path.encode())}")
    return UnixAddress(path)


def _ipv6(host: str, port: int) -> TCPAddress:
    if host == "*":
        return TCPAddress(None, port, ipv6=True)
    try:
        address = IPv6Address(host)
    except ValueError as error:
        raise ValueError(f"expected an IPv6 address or * in the brackets, found {host!r}") from error
    if address.ipv4_mapped is not None:
        return TCPAddress(str(address.ipv4_mapped), port)
    return TCPAddress(None if address == IPv6Address("::") else str(address), port, ipv6=True)


def _hint(text: str) -> str:
    if text.count(":") > 1 and "[" not in text:
        return f"an IPv6 address is bracketed here: expected {_FORMS}"
    if re.fullmatch(r"[0-9]{1,5}", text):
        return f'expected ":{text}" for that port on every address'
    if text and ":" not in text.rpartition("]")[2]:
        return f"the port is missing: expected {_FORMS}"
    return f"expected {_FORMS}, found {text!r}"
