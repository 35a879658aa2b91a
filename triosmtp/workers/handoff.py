"""What goes to a worker beside values: what it is told first, and the connections that it is to serve.

A connection is a packet with a few words and the descriptor.  The socket is of packets (``SOCK_SEQPACKET``): one is
taken whole or not at all, so what a dead worker has not taken can still be taken, in its order, by whoever holds its
end.
"""

import errno
import pickle
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import field, frozen

from triosmtp.auth import MockKey
from triosmtp.config import Config
from triosmtp.policy_service.question import Interest
from triosmtp.sockets.listener import Peer
from triosmtp.tls import TLSSettings

__all__ = ["Handoff", "WorkerInit", "connections_pair", "receive_connection", "send_connection", "skip"]

_LONGEST: Final = 65536
_INT: Final = struct.Struct("@i")
_NO_ROOM: Final = {errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS}


@frozen(slots=True, kw_only=True)
class WorkerInit:
    """What a worker is told first."""

    config: Config
    generation: int
    """The number of the configuration; the supervisor counts them."""
    interest: Interest
    files: Mapping[TLSSettings, Mapping[Path, bytes | str]] = field(repr=False)
    """What the contexts in force are made of: the files may have changed since, or be closed to this user."""
    mock_key: MockKey
    """Asked twice, two workers give the same."""


@frozen(slots=True)
class Handoff:
    """What goes with a connection."""

    number: int
    """By which the worker says that it is over."""
    generation: int
    """The number of the configuration that it is to be served with, at least."""
    listen: object
    """The key of its Listen."""
    peer: Peer


def connections_pair() -> tuple[socket.socket, socket.socket]:
    """Give the supervisor's end and the worker's end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


def send_connection(to: socket.socket, handed: Handoff, sock: socket.socket) -> bool:
    """Hand a connection over; give whether there was room.  The socket stays the caller's to close.

    :raises OSError: where nobody is there.
    """
    try:
        socket.send_fds(to, [pickle.dumps(handed)], [sock.fileno()])
    except OSError as error:
        if error.errno in _NO_ROOM:
            return False
        raise
    return True


def receive_connection(sock: socket.socket) -> tuple[Handoff, socket.socket | None] | None:
    """Take a connection; None where none waits.

    Without a socket it could not be taken, as no descriptor is left for it: it waits on, until :func:`skip`.
    """
    try:
        # Looked at first: what is taken without a descriptor for it is lost.
        # (recv_fds() would do, but for the flags: it has them, and passes them to nobody.)
        flags = socket.MSG_DONTWAIT | socket.MSG_PEEK | socket.MSG_CMSG_CLOEXEC
        data, ancillary, _, _ = sock.recvmsg(_LONGEST, socket.CMSG_SPACE(_INT.size), flags)
    except OSError:
        return None
    if not data:
        return None
    handed: Handoff = pickle.loads(data)  # noqa: S301 - nobody but the supervisor can write to it
    if not ancillary:
        return handed, None
    skip(sock)
    accepted = socket.socket(fileno=_INT.unpack(ancillary[0][2])[0])
    accepted.setblocking(False)
    return handed, accepted


def skip(sock: socket.socket) -> None:
    """Take the first connection that waits, and close what it brings."""
    sock.recv(1, socket.MSG_DONTWAIT)  # with no place for a descriptor: the kernel closes it
