"""The other end of a connection."""

import socket
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from attrs import Factory, frozen

__all__ = ["Peer", "local_address_of", "peer_from_sockaddr"]


@frozen(slots=False)  # made in half the time
class Peer:
    """The other end of a connection: its own address, or the address that a proxy announced."""

    text: str
    address: IPv4Address | IPv6Address | None
    port: int | None = None
    local: str = ""
    """The address that it connected to, if a proxy announced that."""
    announced: Mapping[str, str] = Factory(dict)
    """Other data that the proxy announced, as variables of the session."""


_UNIX_PEER: Final = Peer("unix", None)


def local_address_of(sock: socket.socket) -> IPv4Address | IPv6Address:
    """Return the address that a TCP connection came to.  An IPv4-mapped IPv6 address becomes IPv4."""
    return _parsed(_unmapped(sock.getsockname()[0]))


def _unmapped(host: str) -> str:
    return host[7:] if host.startswith("::ffff:") and "." in host else host


def peer_from_sockaddr(address: object) -> Peer:
    """Return the peer for a socket address as ``accept`` returns it.  An IPv4-mapped IPv6 address becomes IPv4."""
    if not isinstance(address, tuple):
        return _UNIX_PEER
    prefix, parsed = _host_parts(address[0])
    return Peer(f"{prefix}{address[1]}", parsed, address[1])


@lru_cache(maxsize=4096)
def _host_parts(host: str) -> tuple[str, IPv4Address | IPv6Address]:
    """Return the text before the port, and the address."""
    host = _unmapped(host)
    return f"[{host}]:" if ":" in host else f"{host}:", _parsed(host.partition("%")[0])


@lru_cache(maxsize=4096)
def _parsed(host: str) -> IPv4Address | IPv6Address:
    return ip_address(host)
