"""``msys.cidr``: maps of networks to texts, read from files of rbldnsd.

A line is ``address[/mask]:rest``.  The address may end early (``10.1`` is 10.1.0.0/16), ``!`` before it excludes a
network, and an IPv6 address has a blank before the colon.  A line that begins with a colon sets the values of the lines
without a rest (``:127.0.0.2:text``).  ``$`` begins a directive; those for a name server are ignored.
"""

import re
import stat
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from typing import Final, Literal, TypeAlias

from attrs import define, frozen

from triosmtp.errors import TrioSMTPError

__all__ = ["CidrError", "CidrMap", "CidrOptions", "read_rbldnsd"]

_MAX_FILE: Final = 64 * 1024 * 1024
_MAX_LINES: Final = 1_000_000
_DEFAULT_A: Final = "127.0.0.2"
_IPV4 = re.compile(r"([0-9][0-9./]*)(?:\s+|:|$)")

Address: TypeAlias = IPv4Address | IPv6Address
Value: TypeAlias = tuple[str, str] | None
"""The A and TXT value of a network; None if it is excluded."""


class CidrError(TrioSMTPError, ValueError):
    """A file that cannot be read, or options that are not valid."""


@frozen(slots=True, kw_only=True)
class CidrOptions:
    """The options of ``msys.cidr.define``."""

    kind: Literal["rbldnsd", "empty"] = "rbldnsd"
    source: Path | None = None
    refresh: float = 1800.0
    value: Literal["a", "txt"] = "txt"
    interpolate: bool = False
    """Whether ``$`` in a value is the address that was asked about."""
    default: str | None = None


class _Table:
    """The networks of one version of IP, by the length of their prefix."""

    __slots__ = ("_by_length", "_width")

    def __init__(self, width: int) -> None:
        self._width = width
        self._by_length: dict[int, dict[int, Value]] = {}

    def add(self, network: IPv4Network | IPv6Network, value: Value) -> None:
        shift = self._width - network.prefixlen
        self._by_length.setdefault(network.prefixlen, {})[int(network.network_address) >> shift] = value

    def close(self) -> None:
        """Sort the lengths: the longest first."""
        self._by_length = dict(sorted(self._by_length.items(), reverse=True))

    def find(self, address: int) -> Value:
        for length, networks in self._by_length.items():
            key = address >> (self._width - length)
            if key in networks:
                return networks[key]
        return None


class Networks:
    """All networks of a file."""

    __slots__ = ("_v4", "_v6")

    def __init__(self, entries: Iterator[tuple[IPv4Network | IPv6Network, Value]]) -> None:
        self._v4, self._v6 = _Table(32), _Table(128)
        for network, value in entries:
            (self._v4 if network.version == 4 else self._v6).add(network, value)
        self._v4.close()
        self._v6.close()

    def find(self, address: Address) -> Value:
        """Return the value of the smallest network that has ``address``."""
        return (self._v4 if address.version == 4 else self._v6).find(int(address))


def read_rbldnsd(path: Path) -> Networks:
    """Read a file.  It blocks.

    :raises CidrError: if it cannot be read, or if a line is malformed; the text has the file and the line.
    """
    try:
        with path.open("rb") as file:
            if not stat.S_ISREG(path.stat().st_mode):
                raise CidrError(f"{path}: not a file")
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise CidrError(f"{path}: {error.strerror}") from None
    if len(data) > _MAX_FILE:
        raise CidrError(f"{path}: longer than {_MAX_FILE} octets")
    lines = data.decode("utf-8", "replace").splitlines()
    if len(lines) > _MAX_LINES:
        raise CidrError(f"{path}: more than {_MAX_LINES} lines")
    return Networks(_entries(path, lines))


def _entries(path: Path, lines: list[str]) -> Iterator[tuple[IPv4Network | IPv6Network, Value]]:
    defaults = (_DEFAULT_A, "")
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text[0] in "#;$":
            continue
        try:
            if text.startswith(":"):
                defaults = _values(text[1:], defaults)
                continue
            excluded = text.startswith("!")
            network, rest = _split_line(text.lstrip("!").strip())
            yield network, None if excluded else _values(rest, defaults)
        except ValueError as error:
            raise CidrError(f"{path}:{number}: {error}") from None


def _split_line(text: str) -> tuple[IPv4Network | IPv6Network, str]:
    """Return the network and the rest of a line.  A blank ends the network, or for IPv4 a colon, too."""
    found = _IPV4.match(text)
    if found is not None and ("." in found[1] or "::" not in text.split(maxsplit=1)[0]):
        return _ipv4_network(found[1]), text[found.end() :]
    word, *after = text.split(maxsplit=1)
    return ip_network(word, strict=False), "".join(after)


def _ipv4_network(text: str) -> IPv4Network:
    """Read an IPv4 network; octets at the end may be missing.

    :raises ValueError: if it is malformed.
    """
    address, slash, mask = text.partition("/")
    octets = address.removesuffix(".").split(".")
    if len(octets) > 4:
        raise ValueError(f"{text!r} is not a network")
    full = ".".join([*octets, *["0"] * (4 - len(octets))])
    return IPv4Network(f"{full}/{mask if slash else 8 * len(octets)}", strict=False)


def _values(rest: str, defaults: tuple[str, str]) -> tuple[str, str]:
    """Return the A and the TXT value of the text after a network: ``:127.0.0.3:text``, ``3:text`` or ``text``."""
    rest = rest.strip().removeprefix(":").strip()
    if not rest:
        return defaults
    head, colon, text = rest.partition(":")
    if not _is_a(head):
        return defaults[0], rest
    address = f"127.0.0.{head}" if head.isdigit() else head.strip()
    return (address, text.strip() or defaults[1]) if colon else (address, rest)


def _is_a(text: str) -> bool:
    try:
        IPv4Address(text.strip())
    except ValueError:
        return text.strip().isdigit() and int(text) < 256
    return True


@define(slots=True, eq=False)
class CidrMap:
    """A map that a script has defined."""

    options: CidrOptions
    networks: Networks
    due: float
    """The time of the monotonic clock at which the file is to be read again."""

    @classmethod
    def open(cls, options: CidrOptions, now: float) -> "CidrMap":
        """Read the map.  It blocks.

        :raises CidrError: if its file cannot be read.
        """
        return cls(options, cls._read(options), now + options.refresh)

    @staticmethod
    def _read(options: CidrOptions) -> Networks:
        return Networks(iter(())) if options.source is None else read_rbldnsd(options.source)

    def reload(self, now: float) -> None:
        """Read the file again.  It blocks.  After an error, the map is as before.

        :raises CidrError: if the file cannot be read.
        """
        self.due = now + self.options.refresh
        self.networks = self._read(self.options)

    def query(self, address: Address | None) -> str | None:
        """Return the text for an address, or the default."""
        value = None if address is None else self.networks.find(_plain(address))
        if value is None:
            return self.options.default
        text = value[0 if self.options.value == "a" else 1]
        return text.replace("$", str(address)) if self.options.interpolate else text


def _plain(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped
