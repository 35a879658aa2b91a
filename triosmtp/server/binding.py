"""The bound sockets of a server, and how they follow a configuration: opened, closed, or left alone.

A socket that would be bound just as it is keeps everything: its place, and the connections that wait in its queue.
What a listening socket can take up as it stands (backlog, TCP_NODELAY, mode) is changed on it.  Where it must be
another one, the new one is bound while the old one still listens, so that a mistake found on the way changes nothing.
"""

import errno
import logging
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import trio
from attrs import define, evolve, field, frozen

from triosmtp.config import Config, Listen, Settings, TCPAddress, UnixAddress
from triosmtp.errors import ConfigError, Problem, is_transient
from triosmtp.server.listener import bind, family_of, peer_of, unlink_if_ours

__all__ = ["Binding", "OpenedSocket", "Plan", "bind_ahead", "close_all", "plan"]

_log = logging.getLogger("triosmtp.server")


@frozen(slots=True)
class OpenedSocket:
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
        peer = peer_of(name)
        self.local = "" if peer.address is not None and peer.address.is_unspecified else peer.text

    def follow(self, listen: Listen, settings: Settings) -> None:
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
        self.listen, self.settings = listen, settings

    def close(self) -> None:
        """Stop to accept, and close the socket."""
        self.accepting.cancel()
        if isinstance(self.address, str) and not self.given:
            unlink_if_ours(Path(self.address), self.inode)
        self.sock.close()


@frozen(slots=True)
class Plan:
    """What becomes of the sockets.  The new ones are bound; nothing else was done."""

    opened: tuple[Binding, ...]
    kept: tuple[tuple[Binding, Listen, Settings], ...]
    closed: tuple[Binding, ...]


def bind_ahead(
    config: Config, sockets: Mapping[object, OpenedSocket], owner: tuple[int, int]
) -> dict[object, OpenedSocket]:
    """Bind the TCP Listens of ``config`` that none of ``sockets`` is for, and give them all, by the key of the Listen.

    For a process that is about to give up the right to do so; user and group ``owner``, who it will be, then owns them:
    the kernel asks for that where a socket shall take another one's place.  Unix sockets are left to that user.

    :raises ConfigError: naming each Listen that cannot be bound; then nothing was bound.
    """
    listens = (*config.listens, *config.policy_listens, *config.status_listens)
    opened: dict[object, OpenedSocket] = {}
    problems: list[Problem] = []
    for listen in listens:
        if listen.key in sockets or not isinstance(listen.address, TCPAddress):
            continue
        try:
            sock = bind(listen, config.resolve(listen, None), listens)
            opened[listen.key] = OpenedSocket(sock)
            os.fchown(sock.fileno(), *owner)
        except OSError as error:
            problems.append(_problem(listen, error))
    if problems:
        for each in opened.values():
            each.sock.close()
        raise ConfigError(problems)
    return {**sockets, **opened}


def plan(
    config: Config,
    bindings: Iterable[Binding] = (),
    listens: Sequence[Listen] | None = None,
    sockets: Mapping[object, OpenedSocket] | None = None,
) -> Plan:
    """Bind what ``config`` asks for and ``bindings`` do not have: ``listens``, or else those for mail and policy.

    ``sockets`` are there already, by the key of the Listen.

    :raises ConfigError: naming each Listen that cannot be bound; then nothing was bound.
    """
    here = {binding.listen.key: binding for binding in bindings}
    kept: list[tuple[Binding, Listen, Settings]] = []
    wanted: list[tuple[Listen, Settings, object]] = []
    listens = (*config.listens, *config.policy_listens) if listens is None else listens
    for listen in listens:
        settings = config.resolve(listen, None)
        address = listen.address
        family: object = family_of(address, listens) if isinstance(address, TCPAddress) else None
        old = here.get(listen.key)
        as_it_is = old is not None and old.family == family and _buffers(old.settings) == _buffers(settings)
        if old is not None and (as_it_is or old.given):
            kept.append((here.pop(listen.key), listen, settings))
        else:
            wanted.append((listen, settings, family))
    closed = tuple(here.values())
    leaving = [binding.sock for binding in closed]
    opened: list[Binding] = []
    problems: list[Problem] = []
    for listen, settings, family in wanted:
        ready = None if sockets is None else sockets.get(listen.key)
        if ready is not None:
            opened.append(Binding(listen, settings, ready.sock, family, ready.given))
            continue
        try:
            sock = bind(listen, settings, listens, leaving)
        except OSError as error:
            problems.append(_problem(listen, error))
        else:
            opened.append(Binding(listen, settings, sock, family))
    if problems:
        close_all(opened)
        raise ConfigError(problems)
    return Plan(tuple(opened), tuple(kept), closed)


def close_all(bindings: Iterable[Binding]) -> None:
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
