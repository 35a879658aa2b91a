"""Socket activation by systemd: sd_listen_fds(3), matched to the Listens by their addresses.

FileDescriptorName= is not needed: the configuration decides what is served at an address.
"""

import os
import socket
from collections.abc import Iterable, MutableMapping
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from triosmtp.config import Config, Listen, TCPAddress
from triosmtp.errors import ConfigError, Problem, Severity
from triosmtp.sockets.bound_socket import InheritedSocket

__all__ = ["adopt_sockets"]

_FIRST_FD: Final = 3
_MAX_SOCKETS: Final = 1024
_VARIABLES: Final = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


def adopt_sockets(config: Config, environment: MutableMapping[str, str] = os.environ) -> dict[object, InheritedSocket]:
    """Return the sockets that were passed to this process, by the key of the Listen whose address each has.

    Remove the variables from ``environment``, so that children do not inherit the sockets.

    :raises ConfigError: for each socket that cannot be used, or that belongs to no Listen: its clients would wait for
        ever.
    """
    values = {name: environment.pop(name, "") for name in _VARIABLES}
    count = values["LISTEN_FDS"]
    if values["LISTEN_PID"] != str(os.getpid()) or not count.isdecimal() or not 0 < int(count) <= _MAX_SOCKETS:
        return {}  # meant for another process
    names = values["LISTEN_FDNAMES"].split(":")
    found: dict[object, InheritedSocket] = {}
    problems: list[Problem] = []
    listens = [*config.listens, *config.policy_listens, *config.status_listens]
    for number in range(int(count)):
        descriptor = _FIRST_FD + number
        name = names[number] if number < len(names) else ""
        what = f"descriptor {descriptor} that systemd passed" + (f' ("{name}")' if name else "")
        try:
            os.set_inheritable(descriptor, False)
            sock = socket.socket(fileno=descriptor)
        except OSError as error:
            problems.append(Problem(Severity.ERROR, f"{what}: {error.strerror}"))
            continue
        problem, listen = _match(sock, [each for each in listens if each.key not in found])
        if listen is None:
            problems.append(Problem(Severity.ERROR, f"{what}: {problem}"))
            sock.close()
            continue
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            nodelay = config.resolve(listen, None).disable_nagle_algorithm
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(nodelay))
        found[listen.key] = InheritedSocket(sock, external=True)
    if problems:
        for each in found.values():
            each.sock.close()
        raise ConfigError(problems)
    return found


def _match(sock: socket.socket, listens: Iterable[Listen]) -> tuple[str, Listen | None]:
    """Return an empty string and the Listen of ``sock``; or the reason and None if there is no such Listen."""
    name = sock.getsockname()
    address = _text(name)
    if sock.family not in {socket.AF_INET, socket.AF_INET6, socket.AF_UNIX}:
        return "is not a TCP or Unix socket", None
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return f"{address} is not a listening stream socket: expected ListenStream= without Accept=yes", None
    matching = [listen for listen in listens if _is_at(listen, sock, name)]
    if not matching:
        return f"no Listen has the address {address}", None
    # ":25" matches a socket of either family; "[*]:25" only one of IPv6, so it comes first.
    return "", min(matching, key=lambda listen: not getattr(listen.address, "ipv6", False))


def _is_at(listen: Listen, sock: socket.socket, name: object) -> bool:
    address = listen.address
    if not isinstance(address, TCPAddress):
        return isinstance(name, str) and bool(name) and _same_path(address.path, name)
    if not isinstance(name, tuple) or name[1] != address.port:
        return False
    bound = ip_address(str(name[0]).partition("%")[0])
    if address.host is not None:
        return bound == ip_address(address.host)
    if address.ipv6:
        return bound.version == 6 and bound.is_unspecified
    # A socket with IPV6_V6ONLY does not accept all connections of ":25".
    dual = bound.version == 4 or not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    return bound.is_unspecified and dual


def _same_path(one: str, other: str) -> bool:
    return one == other or Path(one).resolve() == Path(other).resolve()


def _text(name: object) -> str:
    if isinstance(name, tuple):
        return f"[{name[0]}]:{name[1]}" if ":" in str(name[0]) else f"{name[0]}:{name[1]}"
    return os.fsdecode(name) if isinstance(name, bytes) else str(name)
