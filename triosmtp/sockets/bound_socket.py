"""The bound sockets of a server, and how they follow a configuration: opened, closed, or left alone.

A socket that would be bound just as it is keeps everything: its place, and the connections that wait in its queue.
What a listening socket can take up as it stands (backlog, TCP_NODELAY, mode) is changed on it.  Where it must be
another one, the new one is bound while the old one still listens, so that a mistake found on the way changes nothing.

`*:25` and `127.0.0.1:25` may stand side by side.  The kernel gives such a port to one socket alone, unless both share
it (SO_REUSEPORT), and then nothing would tell of a second server that was started by mistake.  So the wildcard has the
socket, the other Listen is its guest, and the address that a connection came to says whose it is.
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

import trio
from attrs import define, evolve, field, frozen

from triosmtp.config import Config, Listen, Settings, TCPAddress, UnixAddress
from triosmtp.errors import ConfigError, Problem, is_transient
from triosmtp.sockets.listener import bind, family_of, local_address_of, peer_from_sockaddr, unlink_own_socket

__all__ = [
    "Binding",
    "InheritedSocket",
    "Plan",
    "bind_at_startup",
    "close_sockets",
    "find_bind_problems",
    "listen_names",
    "plan",
]

_log = logging.getLogger("triosmtp.server")

Guests: TypeAlias = Mapping[IPv4Address | IPv6Address, Listen]
"""Listens that have no socket of their own, each by its address: a wildcard's socket takes their connections."""


@frozen(slots=True)
class InheritedSocket:
    """A listening socket that was there before the server."""

    sock: socket.socket
    given: bool = False
    """Whether it is somebody else's, who keeps it when we end: systemd's."""


@define(slots=True, eq=False)
class Binding:
    """A Listen with its listening socket."""

    listen: Listen
    """As the configuration in force has it."""
    settings: Settings
    sock: socket.socket
    family: object
    """What :func:`family_of` said of a TCP address when it was bound; None of a path."""
    given: bool = False
    """Whether the socket is somebody else's: its path and mode are his affair, and no other one can replace it."""
    guests: Guests = field(factory=dict)
    """On a wildcard: the Listens of single addresses that have no socket of their own."""
    accepting: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    address: tuple[str, int] | str = field(init=False)
    """Where it is bound: host and port, or a path."""
    inode: int = field(default=0, init=False)
    """Of the path, as it was bound."""
    local: str = field(init=False)
    """The local address of every connection of this socket; ``""`` where each has its own: on a wildcard."""

    def __attrs_post_init__(self) -> None:
        name = self.sock.getsockname()
        self.address = name if isinstance(name, str) else (name[0], name[1])
        if isinstance(name, str):
            self.inode = Path(name).lstat().st_ino
        peer = peer_from_sockaddr(name)
        self.local = "" if peer.address is not None and peer.address.is_unspecified else peer.text

    def listen_of(self, sock: socket.socket) -> Listen:
        """Return the Listen that a connection came to: the kernel's word decides, never the peer's."""
        return self.guests.get(local_address_of(sock), self.listen) if self.guests else self.listen

    def adjust(self, sock: socket.socket, settings: Settings) -> None:
        """Give a guest's connection what it would have inherited from a socket of its own; not its buffers."""
        if settings.disable_nagle_algorithm != self.settings.disable_nagle_algorithm:
            with suppress(OSError):  # it has gone already
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(settings.disable_nagle_algorithm))

    def succeeds(self, other: "Binding") -> bool:
        """Whether connections that came to ``other`` may belong here."""
        here, there = self.listen.address, other.listen.address
        if self.listen.key == other.listen.key:
            return True
        return isinstance(here, TCPAddress) and isinstance(there, TCPAddress) and here.overlaps(there)

    def takes(self, sock: socket.socket) -> bool:
        """Whether a connection of another socket came to an address that is served here."""
        address = self.listen.address
        if not isinstance(address, TCPAddress) or address.is_wildcard or address.host is None:
            return True
        return local_address_of(sock) == ip_address(address.host.partition("%")[0])

    def addresses(self) -> Iterator[tuple[str, tuple[str, int]]]:
        """Return where its TCP Listens are served, by their names."""
        if not isinstance(self.address, str):
            yield self.listen.name, self.address
            for address, listen in self.guests.items():
                yield listen.name, (str(address), self.address[1])

    def follow(self, listen: Listen, settings: Settings, guests: Guests) -> None:
        """Take up the options of ``listen``, which needs no other socket."""
        if settings.listen_backlog != self.settings.listen_backlog:
            self.sock.listen(settings.listen_backlog)
        if isinstance(listen.address, UnixAddress):
            try:
                if not self.given:
                    Path(listen.address.path).chmod(listen.address.mode)
            except OSError as error:
                _log.warning('Listen "%s": its mode stays as it was: %s', listen.name, error.strerror)
        elif settings.disable_nagle_algorithm != self.settings.disable_nagle_algorithm:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(settings.disable_nagle_algorithm))
        self.listen, self.settings, self.guests = listen, settings, guests

    def close(self) -> None:
        """Stop to accept, and close the socket."""
        self.accepting.cancel()
        if isinstance(self.address, str) and not self.given:
            unlink_own_socket(Path(self.address), self.inode)
        self.sock.close()


@frozen(slots=True)
class Kept:
    """A socket that stays, and what it is to take up."""

    binding: Binding
    listen: Listen
    settings: Settings
    guests: Guests

    def follow(self) -> None:
        """Have the socket take it up."""
        self.binding.follow(self.listen, self.settings, self.guests)


@frozen(slots=True)
class Plan:
    """What becomes of the sockets.  The new ones are bound; nothing else was done."""

    opened: tuple[Binding, ...]
    kept: "tuple[Kept, ...]"
    closed: tuple[Binding, ...]


def bind_at_startup(
    config: Config, sockets: Mapping[object, InheritedSocket], owner: tuple[int, int]
) -> dict[object, InheritedSocket]:
    """Bind the TCP Listens of ``config`` that none of ``sockets`` is for, and give them all, by the key of the Listen.

    For a process that is about to give up the right to do so; user and group ``owner``, who it will be, then owns them:
    the kernel asks for that where a socket shall take another one's place.  Unix sockets are left to that user.

    :raises ConfigError: naming each Listen that cannot be bound; then nothing was bound.
    """
    listens = (*config.listens, *config.policy_listens, *config.status_listens)
    opened: dict[object, InheritedSocket] = {}
    problems: list[Problem] = []
    for listen in listens:
        if listen.key in sockets or not isinstance(listen.address, TCPAddress) or config.wildcard_of(listen):
            continue
        try:
            sock = bind(listen, config.resolve(listen, None), listens)
            opened[listen.key] = InheritedSocket(sock)
            os.fchown(sock.fileno(), *owner)
        except OSError as error:
            problems.append(_problem(listen, error))
    if problems:
        for each in opened.values():
            each.sock.close()
        raise ConfigError(problems)
    return {**sockets, **opened}


def find_bind_problems(config: Config, sockets: Mapping[object, InheritedSocket]) -> list[Problem]:
    """Return why TCP Listens of ``config`` could not be bound; nothing stays bound.  ``sockets`` are there already."""
    try:
        bound = bind_at_startup(config, sockets, (os.geteuid(), os.getegid()))
    except ConfigError as error:
        return list(error.problems)
    for key, opened in bound.items():
        if key not in sockets:
            opened.sock.close()
    return []


def plan(
    config: Config,
    bindings: Iterable[Binding] = (),
    listens: Sequence[Listen] | None = None,
    sockets: Mapping[object, InheritedSocket] | None = None,
) -> Plan:
    """Bind what ``config`` asks for and ``bindings`` do not have: ``listens``, or else those for mail and policy.

    ``sockets`` are there already, by the key of the Listen.

    :raises ConfigError: naming each Listen that cannot be bound; then nothing was bound.
    """
    here = {binding.listen.key: binding for binding in bindings}
    kept: list[Kept] = []
    wanted: list[tuple[Listen, Settings, object]] = []
    listens = (*config.listens, *config.policy_listens) if listens is None else listens
    own = {key for key, binding in here.items() if binding.given} | set(sockets or ())
    guests = _guests(config, [each for each in listens if each.key not in own])
    sheltered = {each.key for found in guests.values() for each in found.values()}
    for listen in listens:
        if listen.key in sheltered:
            continue
        settings = config.resolve(listen, None)
        address = listen.address
        family: object = family_of(address, listens) if isinstance(address, TCPAddress) else None
        old = here.get(listen.key)
        as_it_is = old is not None and old.family == family and _buffers(old.settings) == _buffers(settings)
        if old is not None and (as_it_is or old.given):
            kept.append(Kept(here.pop(listen.key), listen, settings, guests.get(listen.key, {})))
        else:
            wanted.append((listen, settings, family))
    closed = tuple(here.values())
    leaving = [binding.sock for binding in closed]
    opened: list[Binding] = []
    problems: list[Problem] = []
    for listen, settings, family in wanted:
        ready = None if sockets is None else sockets.get(listen.key)
        if ready is not None:
            taken = guests.get(listen.key, {})
            opened.append(Binding(listen, settings, ready.sock, family, ready.given, taken))
            continue
        try:
            sock = bind(listen, settings, listens, leaving)
        except OSError as error:
            problems.append(_problem(listen, error))
        else:
            opened.append(Binding(listen, settings, sock, family, guests=guests.get(listen.key, {})))
    if problems:
        close_sockets(opened)
        raise ConfigError(problems)
    return Plan(tuple(opened), tuple(kept), closed)


def _guests(config: Config, listens: Iterable[Listen]) -> dict[object, dict[IPv4Address | IPv6Address, Listen]]:
    """Return those of ``listens`` that a wildcard takes in, by the key of the wildcard."""
    guests: dict[object, dict[IPv4Address | IPv6Address, Listen]] = {}
    for listen in listens:
        wildcard = config.wildcard_of(listen)
        if wildcard is not None:
            assert isinstance(listen.address, TCPAddress), "Unix sockets have no wildcard"
            assert listen.address.host is not None, "it names one address"
            guests.setdefault(wildcard.key, {})[ip_address(listen.address.host)] = listen
    return guests


def listen_names(sockets: "Iterable[Binding | Kept]") -> tuple[str, ...]:
    """Return the names of the Listens that have sockets of their own."""
    return tuple(each.listen.name for each in sockets)


def close_sockets(bindings: Iterable[Binding]) -> None:
    """Close the sockets."""
    for binding in bindings:
        binding.close()


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
