"""The header of the PROXY protocol, versions 1 and 2 (HAProxy's ``proxy-protocol.txt``): a proxy describes its client.

:func:`parse_proxy_header` is called with all octets that arrived.  It returns how many more may be read without reading
past the header, since the octets behind it belong to SMTP or to TLS.
"""

import re
import struct
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, TypeAlias

from attrs import Factory, frozen

from triosmtp.errors import TrioSMTPError

__all__ = ["MAX_PROXY_HEADER_SIZE", "MIN_PROXY_HEADER_SIZE", "ProxyHeader", "ProxyHeaderError", "parse_proxy_header"]

MIN_PROXY_HEADER_SIZE: Final = 15
"""Octets that every header has, so that as many may be read at first."""
MAX_PROXY_HEADER_SIZE: Final = 16_384
"""Octets of the longest header that is accepted.  The specification allows 65,551; real headers are far shorter."""

_MAX_LINE = 107  # version 1, with its CRLF
_MAX_TEXT = 1024  # octets of a text in a variable
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_HEAD = 16
_LINE = re.compile(rb"PROXY (?:UNKNOWN(?: [!-~ ]*)?|(TCP[46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) (\d{1,5}) (\d{1,5}))")
_FIELDS = 6  # fields of a line for TCP

_ADDRESS_SIZES = {0x1: 4, 0x2: 16}
_UNIX = 0x3
_UNIX_SIZE = 216
_STREAM = 0x1

_ALPN, _AUTHORITY, _CRC32C, _UNIQUE_ID, _SSL = 0x01, 0x02, 0x03, 0x05, 0x20
_SSL_TEXTS = {
    0x21: "proxy_ssl_version",
    0x22: "proxy_ssl_client_cn",
    0x23: "proxy_ssl_cipher",
    0x24: "proxy_ssl_sig_alg",
    0x25: "proxy_ssl_key_alg",
}
_BY_SSL, _BY_CERTIFICATE, _BY_SESSION = 0x01, 0x02, 0x04

Endpoint: TypeAlias = tuple[IPv4Address | IPv6Address, int]


class ProxyHeaderError(TrioSMTPError):
    """Octets that are not a header of the PROXY protocol, or a header that is not accepted."""


@frozen(slots=True)
class ProxyHeader:
    """A header: the connection that a proxy forwards.

    If ``proxied`` is False, it describes no client (LOCAL, UNKNOWN): the connection is the proxy's own.
    ``source`` and ``destination`` are None for a client of a Unix socket.
    """

    version: int
    proxied: bool = False
    source: Endpoint | None = None
    destination: Endpoint | None = None
    variables: Mapping[str, str] = Factory(dict)
    """Further data as context variables, with names that begin with ``proxy_``."""


def parse_proxy_header(data: bytes) -> ProxyHeader | int:
    """Parse a header, or return how many octets may be read next if ``data`` is the beginning of one.

    :raises ProxyHeaderError: as soon as it can be none, or is longer than :data:`MAX_PROXY_HEADER_SIZE`.
    """
    if data[:1] == b"P":
        return _read_line(data)
    if not _SIGNATURE.startswith(data[: len(_SIGNATURE)]):
        raise ProxyHeaderError("it does not begin with a PROXY header")
    if len(data) < _HEAD:
        return _HEAD - len(data) if data else MIN_PROXY_HEADER_SIZE
    command, family, size = data[12], data[13], data[14] << 8 | data[15]
    if command >> 4 != 2 or command & 0xF > 1:
        raise ProxyHeaderError(f"version and command {command:#04x} are not known")
    if _HEAD + size > MAX_PROXY_HEADER_SIZE:
        raise ProxyHeaderError(f"a header of {_HEAD + size} octets is longer than {MAX_PROXY_HEADER_SIZE}")
    if len(data) < _HEAD + size:
        return _HEAD + size - len(data)
    if len(data) > _HEAD + size:
        raise ProxyHeaderError("more octets were read than the header")
    return _read_binary(data, local=command & 0xF == 0, family=family)


# Version 1


def _read_line(data: bytes) -> ProxyHeader | int:
    start = b"PROXY "
    if not start.startswith(data[: len(start)]):
        raise ProxyHeaderError("it does not begin with a PROXY header")
    end = data.find(b"\n")
    if end < 0:
        if len(data) >= _MAX_LINE:
            raise ProxyHeaderError(f"a line above {_MAX_LINE} octets")
        return _at_least(data)
    match = _LINE.fullmatch(data[: end - 1]) if data[end - 1 : end] == b"\r" else None
    if match is None or len(data) > end + 1:
        raise ProxyHeaderError("a malformed line")
    if match[1] is None:
        return ProxyHeader(1)
    try:
        addresses = [ip_address(match[i].decode("ascii")) for i in (2, 3)]
    except ValueError:
        raise ProxyHeaderError("a malformed address") from None
    ports = [int(match[i]) for i in (4, 5)]
    if {each.version for each in addresses} != {int(match[1][3:])} or max(ports) > 65_535:
        raise ProxyHeaderError("an address or a port that does not match")
    return _proxied(1, (addresses[0], ports[0]), (addresses[1], ports[1]), {})


def _at_least(data: bytes) -> int:
    """Return how many octets the line must still have: each missing field has one, and a separator."""
    if len(data) < MIN_PROXY_HEADER_SIZE:
        return MIN_PROXY_HEADER_SIZE - len(data)
    if data.endswith(b"\r"):
        return 1
    if not data.startswith(b"PROXY TCP"):
        return 1
    missing = max(0, _FIELDS - 1 - data.count(b" "))
    return min(2 * missing + 2 + data.endswith(b" "), _MAX_LINE - len(data))


# Version 2


def _read_binary(data: bytes, *, local: bool, family: int) -> ProxyHeader:
    if local:
        return ProxyHeader(2)  # the specification says to ignore its rest
    network, transport = family >> 4, family & 0xF
    if network > _UNIX or transport > 2:
        raise ProxyHeaderError(f"address family {family:#04x} is not known")
    if network and transport != _STREAM:
        raise ProxyHeaderError("a client that does not use a stream")
    ends: tuple[Endpoint, Endpoint] | tuple[None, None] = (None, None)
    size = 0
    if network == _UNIX:
        size = _UNIX_SIZE
    elif network:
        size = 2 * (_ADDRESS_SIZES[network] + 2)
    if len(data) < _HEAD + size:
        raise ProxyHeaderError("its addresses are cut off")
    if network in _ADDRESS_SIZES:
        ends = _endpoints(data[_HEAD : _HEAD + size], _ADDRESS_SIZES[network])
    _check_sum(data, _HEAD + size)
    source, destination = ends
    return _proxied(2, source, destination, _texts(data[_HEAD + size :])) if network else ProxyHeader(2)


def _endpoints(data: bytes, size: int) -> tuple[Endpoint, Endpoint]:
    source, destination = ip_address(data[:size]), ip_address(data[size : 2 * size])
    from_port, to_port = struct.unpack_from("!HH", data, 2 * size)
    return (source, int(from_port)), (destination, int(to_port))


def _proxied(
    version: int, source: Endpoint | None, destination: Endpoint | None, more: Mapping[str, str]
) -> ProxyHeader:
    source, destination = _unmapped(source), _unmapped(destination)
    return ProxyHeader(version, proxied=True, source=source, destination=destination, variables=more)


def _unmapped(end: Endpoint | None) -> Endpoint | None:
    """Replace an IPv4-mapped IPv6 address by the IPv4 address, since peers are compared in this form."""
    if end is not None and isinstance(end[0], IPv6Address) and end[0].ipv4_mapped is not None:
        return end[0].ipv4_mapped, end[1]
    return end


def _fields(data: bytes, start: int = 0) -> Iterator[tuple[int, int, bytes]]:
    """Yield type, offset and value of each TLV."""
    while start < len(data):
        if start + 3 > len(data):
            raise ProxyHeaderError("a field that is cut off")
        kind, size = struct.unpack_from("!BH", data, start)
        start += 3
        if start + size > len(data):
            raise ProxyHeaderError("a field that is cut off")
        yield kind, start, data[start : start + size]
        start += size


def _check_sum(data: bytes, start: int) -> None:
    sums = [(at, value) for kind, at, value in _fields(data, start) if kind == _CRC32C]
    if len(sums) > 1:  # each takes time for every octet
        raise ProxyHeaderError("more than one checksum")
    for at, value in sums:
        whole = data[:at] + bytes(len(value)) + data[at + len(value) :]
        if len(value) != 4 or _crc32c(whole) != int.from_bytes(value, "big"):
            raise ProxyHeaderError("its checksum is wrong")


def _texts(data: bytes) -> dict[str, str]:
    values: dict[str, str] = {}
    for kind, _, value in _fields(data):
        if kind == _ALPN:
            values["proxy_alpn"] = _text(value)
        elif kind == _AUTHORITY:
            values["proxy_authority"] = _text(value)
        elif kind == _UNIQUE_ID:
            if len(value) > 128:
                raise ProxyHeaderError("a unique id above 128 octets")
            values["proxy_unique_id"] = _text(value)
        elif kind == _SSL:
            values.update(_ssl(value))
    return values


def _ssl(value: bytes) -> dict[str, str]:
    if len(value) < 5:
        raise ProxyHeaderError("a field that is cut off")
    client, verify = struct.unpack_from("!BI", value)
    if not client & _BY_SSL:
        return {}
    presented = bool(client & (_BY_CERTIFICATE | _BY_SESSION))
    values = {
        "proxy_ssl": "on",
        "proxy_ssl_client_certificate": "yes" if presented else "no",
        "proxy_ssl_client_verified": "yes" if presented and verify == 0 else "no",
    }
    for kind, _, text in _fields(value[5:]):
        if kind in _SSL_TEXTS:
            values[_SSL_TEXTS[kind]] = _text(text)
    return values


def _text(value: bytes) -> str:
    """Return ``value`` as text, with ``?`` for characters that are not printable."""
    text = value[:_MAX_TEXT].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in text)


def _crc_table() -> tuple[int, ...]:
    table = []
    for octet in range(256):
        for _ in range(8):
            octet = octet >> 1 ^ (0x82F63B78 if octet & 1 else 0)  # noqa: PLW2901 - shifted out bit by bit
        table.append(octet)
    return tuple(table)


_CRC_TABLE = _crc_table()


def _crc32c(data: bytes) -> int:
    """Return the checksum CRC-32C (RFC 3720, section 12.1)."""
    crc, table = 0xFFFFFFFF, _CRC_TABLE
    for octet in data:
        crc = crc >> 8 ^ table[(crc ^ octet) & 0xFF]
    return crc ^ 0xFFFFFFFF
