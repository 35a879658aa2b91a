"""The listening sockets of a configuration, and how a reload changes them.

A socket that a new configuration would bind in the same way is kept, with its backlog.  Options that can change on a
listening socket (backlog, TCP_NODELAY, mode) are set on it.  Otherwise a new socket is bound while the old one still
listens.  So an error changes nothing.

``*:25`` and ``127.0.0.1:25`` can be used together.  The kernel allows that only if both sockets set SO_REUSEPORT, but
then a second server that was started by mistake would bind, too.  So only the wildcard has a socket.  The local address
of a connection decides which Listen it belongs to.
"""

import errno
import logging
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TypeAlias

from attrs import define, evolve, field, frozen

from triosmtp.config import Config, Listen, Settings, TCPAddress, UnixAddress
from triosmtp.errors import ConfigError, Problem, is_transient
from triosmtp.sockets.listener import family_of, open_listening_socket
from triosmtp.sockets.listening_socket import ListeningSocket, close_sockets
from triosmtp.sockets.peer import local_address_of, peer_from_sockaddr

__all__ = [
    "BoundSocket",
    "InheritedSocket",
    "SocketChanges",
    "bind_at_startup",
    "find_bind_problems",
    "listen_names",
    "plan_sockets",
]

_log = logging.getLogger("triosmtp.server")

ListensByAddress: TypeAlias = Mapping[IPv4Address | IPv6Address, Listen]
"""Listens of single addresses that have no socket: the socket of a wildcard accepts their connections."""


@frozen(slots=True)
class InheritedSocket:
    """A listening socket that was opened before the server started."""

    sock: socket.socket
    external: bool = False
    """Whether another process owns the socket: systemd."""


@define(slots=True, eq=False)
class BoundSocket(ListeningSocket):
    """The listening socket of a Listen."""

    listen: Listen
    """The Listen in the configuration in force."""
    settings: Settings
    family: object = None
    """The result of :func:`family_of` for a TCP address when the socket was bound; None for a path."""
    by_address: ListensByAddress = field(factory=dict)
    """Of a wildcard: the Listens of single addresses that have no socket."""
    local: str = field(init=False)
    """The local address of every connection; ``""`` on a wildcard, because it differs."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        local = peer_from_sockaddr(self.sock.getsockname())
        self.local = "" if local.address is not None and local.address.is_unspecified else local.text

    def listen_of(self, sock: socket.socket) -> Listen:
        """Return the Listen that a connection belongs to, by the local address that the kernel reports."""
        return self.by_address.get(local_address_of(sock), self.listen) if self.by_address else self.listen

    def set_nodelay(self, sock: socket.socket, settings: Settings) -> None:
        """Set TCP_NODELAY of a connection for ``settings``, if this socket has another value."""
        if settings.disable_nagle_algorithm != self.settings.disable_nagle_algorithm:
            with suppress(OSError):  # the peer has disconnected
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(settings.disable_nagle_algorithm))

    def replaces(self, other: "BoundSocket") -> bool:
        """Return whether connections in the backlog of ``other`` may belong to this socket."""
        here, there = self.listen.address, other.listen.address
        if self.listen.key == other.listen.key:
            return True
        return isinstance(here, TCPAddress) and isinstance(there, TCPAddress) and here.overlaps(there)

    def serves_address_of(self, sock: socket.socket) -> bool:
        """Return whether a connection that another socket accepted came to an address of this socket."""
        address = self.listen.address
        if not isinstance(address, TCPAddress) or address.is_wildcard or address.host is None:
            return True
        return local_address_of(sock) == ip_address(address.host.partition("%")[0])

    def addresses(self) -> Iterator[tuple[str, tuple[str, int]]]:
        """Yield the name of each TCP Listen of this socket with its address."""
        if not isinstance(self.address, str):
            yield self.listen.name, self.address
            for address, listen in self.by_address.items():
                yield listen.name, (str(address), self.address[1])

    def apply(self, listen: Listen, settings: Settings, by_address: ListensByAddress) -> None:
        """Apply the options of ``listen`` of a new configuration, which needs no other socket."""
        if settings.listen_backlog != self.settings.listen_backlog:
            self.sock.listen(settings.listen_backlog)
        if isinstance(listen.address, UnixAddress):
            try:
                if not self.external:
                    Path(listen.address.path).chmod(listen.address.mode)
            except OSError as error:
                _log.warning('Listen "%s": the mode was not changed: %s', listen.name, error.strerror)
        elif settings.disable_nagle_algorithm != self.settings.disable_nagle_algorithm:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(settings.disable_nagle_algorithm))
        self.listen, self.settings, self.by_address = listen, settings, by_address


@frozen(slots=True)
class _Kept:
    """A socket that is kept, and the options for it."""

    bound: BoundSocket
    listen: Listen
    settings: Settings
    by_address: ListensByAddress


@frozen(slots=True)
class SocketChanges:
    """The changes of the sockets for a new configuration.  New sockets are bound; nothing else was done yet."""

    opened: tuple[BoundSocket, ...]
    closed: tuple[BoundSocket, ...]
    _kept: tuple[_Kept, ...]

    @property
    def kept(self) -> tuple[BoundSocket, ...]:
        """The sockets that are kept."""
        return tuple(each.bound for each in self._kept)

    def apply(self) -> list[BoundSocket]:
        """Apply the new options to the sockets that are kept.  Return all sockets of the new configuration."""
        for each in self._kept:
            each.bound.apply(each.listen, each.settings, each.by_address)
        return [*self.kept, *self.opened]


def bind_at_startup(
    config: Config, sockets: Mapping[object, InheritedSocket], owner: tuple[int, int]
) -> dict[object, InheritedSocket]:
    """Bind the TCP Listens of ``config`` that are not in ``sockets``, and return all of them by the key of the Listen.

    This is for a process that gives up the right to bind.  ``owner`` is the user and group that it becomes.  The socket
    must belong to them: SO_REUSEPORT requires the same user.  Unix sockets are bound later, by that user.

    :raises ConfigError: with a problem for each Listen that cannot be bound.  Then no socket stays bound.
    """
    listens = (*config.listens, *config.policy_listens, *config.status_listens)
    opened: dict[object, InheritedSocket] = {}
    problems: list[Problem] = []
    for listen in listens:
        if listen.key in sockets or not isinstance(listen.address, TCPAddress) or config.wildcard_of(listen):
            continue
        try:
            sock = open_listening_socket(listen, config.resolve(listen, None), listens)
            opened[listen.key] = InheritedSocket(sock)
            if owner != (os.geteuid(), os.getegid()):  # a filter of system calls may permit no fchown()
                os.fchown(sock.fileno(), *owner)
        except OSError as error:
            problems.append(_problem(listen, error))
    if problems:
        for each in opened.values():
            each.sock.close()
        raise ConfigError(problems)
    return {**sockets, **opened}


def find_bind_problems(config: Config, sockets: Mapping[object, InheritedSocket]) -> list[Problem]:
    """Return why TCP Listens of ``config`` that are not in ``sockets`` cannot be bound.  No socket stays bound."""
    try:
        bound = bind_at_startup(config, sockets, (os.geteuid(), os.getegid()))
    except ConfigError as error:
        return list(error.problems)
    for key, opened in bound.items():
        if key not in sockets:
            opened.sock.close()
    return []


def plan_sockets(
    config: Config,
    bound: Iterable[BoundSocket] = (),
    listens: Sequence[Listen] | None = None,
    sockets: Mapping[object, InheritedSocket] | None = None,
) -> SocketChanges:
    """Bind the ``listens`` of ``config`` that are not ``bound`` yet; by default, the Listens for mail and policy.

    ``sockets`` were opened before, by the key of the Listen.

    :raises ConfigError: with a problem for each Listen that cannot be bound.  Then no new socket stays bound.
    """
    known = {each.listen.key: each for each in bound}
    kept: list[_Kept] = []
    wanted: list[tuple[Listen, Settings, object]] = []
    listens = (*config.listens, *config.policy_listens) if listens is None else listens
    with_socket = {key for key, each in known.items() if each.external} | set(sockets or ())
    by_address = _listens_by_address(config, [each for each in listens if each.key not in with_socket])
    without_socket = {each.key for found in by_address.values() for each in found.values()}
    for listen in listens:
        if listen.key in without_socket:
            continue
        settings = config.resolve(listen, None)
        address = listen.address
        family: object = family_of(address, listens) if isinstance(address, TCPAddress) else None
        old = known.get(listen.key)
        is_same = old is not None and old.family == family and _buffers(old.settings) == _buffers(settings)
        if old is not None and (is_same or old.external):
            kept.append(_Kept(known.pop(listen.key), listen, settings, by_address.get(listen.key, {})))
        else:
            wanted.append((listen, settings, family))
    closed = tuple(known.values())
    replaced_sockets = [each.sock for each in closed]
    opened: list[BoundSocket] = []
    problems: list[Problem] = []
    for listen, settings, family in wanted:
        inherited = None if sockets is None else sockets.get(listen.key)
        try:
            if inherited is None:
                inherited = InheritedSocket(open_listening_socket(listen, settings, listens, replaced_sockets))
        except OSError as error:
            problems.append(_problem(listen, error))
            continue
        sock, external = inherited.sock, inherited.external
        opened.append(BoundSocket(sock, listen, settings, family, by_address.get(listen.key, {}), external=external))
    if problems:
        close_sockets(opened)
        raise ConfigError(problems)
    return SocketChanges(tuple(opened), closed, tuple(kept))


def _listens_by_address(
    config: Config, listens: Iterable[Listen]
) -> dict[object, dict[IPv4Address | IPv6Address, Listen]]:
    """Return those of ``listens`` that the socket of a wildcard serves, by the key of the wildcard."""
    found: dict[object, dict[IPv4Address | IPv6Address, Listen]] = {}
    for listen in listens:
        wildcard = config.wildcard_of(listen)
        if wildcard is not None:
            assert isinstance(listen.address, TCPAddress), "Unix sockets have no wildcard"
            assert listen.address.host is not None, "it names one address"
            found.setdefault(wildcard.key, {})[ip_address(listen.address.host)] = listen
    return found


def listen_names(sockets: Iterable[BoundSocket]) -> tuple[str, ...]:
    """Return the names of the Listens that have a socket."""
    return tuple(each.listen.name for each in sockets)


def _problem(listen: Listen, error: OSError) -> Problem:
    text = f'Listen "{listen.name}": {os.strerror(error.errno or 0)}'
    if error.errno == errno.EACCES and isinstance(listen.address, TCPAddress) and os.geteuid() != 0:
        text += (
            f": port {listen.address.port} needs root, or cap_net_bind_service, which Capabilities in the Security "
            "scope keeps"
        )
    return evolve(listen.problem(text), transient=is_transient(error))


def _buffers(settings: Settings) -> tuple[int, int]:
    return settings.tcp_recv_buffer_size, settings.tcp_send_buffer_size
