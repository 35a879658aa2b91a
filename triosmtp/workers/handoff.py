"""Pass accepted connections to a worker.

A connection is one packet of a ``SOCK_SEQPACKET`` socket pair: a header, the key of the Listen, the peer, and the
descriptor.  A packet is received as a whole or not at all.  The supervisor holds both ends, so it can receive the
packets that a dead worker has not received.
"""

import errno
import pickle
import socket
import struct
from functools import lru_cache
from typing import Final

from attrs import frozen

from triosmtp.sockets.peer import Peer, peer_from_sockaddr

__all__ = ["Handoff", "connections_pair", "discard_connection", "receive_connection", "send_connection"]

_MAX_PACKET: Final = 65536
_HEADER: Final = struct.Struct("=QIHH")
"""The number of the connection, the number of the configuration, and the sizes of the Listen's key and of the peer."""
_FD: Final = struct.Struct("@i")
_FULL: Final = {errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS}


@frozen(slots=True)
class Handoff:
    """The data that is passed with a connection."""

    number: int
    """The number by which the worker reports its end."""
    generation: int
    """The number of the configuration in force when it was accepted: it is served with this one or a later one."""
    listen: object
    """The key of its Listen."""
    peer: Peer


def connections_pair() -> tuple[socket.socket, socket.socket]:
    """Return the supervisor's end and the worker's end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


def send_connection(to: socket.socket, handoff: Handoff, sock: socket.socket) -> bool:
    """Send a connection; return False if the queue is full.  The caller closes ``sock`` after that.

    :raises OSError: if the worker has ended.
    """
    key, peer = _packed_key(handoff.listen), handoff.peer
    # The address and the port of a client say everything about it, unless a proxy announced it.
    text, announced = (b"", pickle.dumps(peer)) if peer.local or peer.announced else (peer.text.encode(), b"")
    header = _HEADER.pack(handoff.number, handoff.generation, len(key), len(text))
    try:
        to.sendmsg((header, key, text, announced), ((socket.SOL_SOCKET, socket.SCM_RIGHTS, _FD.pack(sock.fileno())),))
    except OSError as error:
        if error.errno in _FULL:
            return False
        raise
    return True


def receive_connection(sock: socket.socket) -> tuple[Handoff, socket.socket | None] | None:
    """Receive a connection; return None if none waits.

    Without a socket, no descriptor was left for it: the packet stays in the queue until :func:`discard_connection`.
    """
    try:
        # Peek first: a packet that is received without a free descriptor would be lost.
        # (socket.recv_fds() does not pass its flags on.)
        flags = socket.MSG_DONTWAIT | socket.MSG_PEEK | socket.MSG_CMSG_CLOEXEC
        data, ancillary, _, _ = sock.recvmsg(_MAX_PACKET, socket.CMSG_SPACE(_FD.size), flags)
    except OSError:
        return None
    if not data:
        return None
    handoff = _unpack(data)
    if not ancillary:
        return handoff, None
    discard_connection(sock)
    accepted = socket.socket(fileno=_FD.unpack(ancillary[0][2])[0])
    accepted.setblocking(False)
    return handoff, accepted


def discard_connection(sock: socket.socket) -> None:
    """Remove the first packet from the queue, and close its descriptor."""
    sock.recv(1, socket.MSG_DONTWAIT)  # without space for a descriptor, the kernel closes it


def _unpack(data: bytes) -> Handoff:
    number, generation, key_size, text_size = _HEADER.unpack_from(data)
    peer_at = _HEADER.size + key_size
    text = data[peer_at : peer_at + text_size].decode()
    peer = _peer_of(text) if text else pickle.loads(data[peer_at:])  # noqa: S301 - only the supervisor can write to it
    return Handoff(number, generation, _unpacked_key(data[_HEADER.size : peer_at]), peer)


def _peer_of(text: str) -> Peer:
    host, colon, port = text.rpartition(":")
    return peer_from_sockaddr((host.strip("[]"), int(port))) if colon else Peer(text, None)


@lru_cache(maxsize=1024)  # one entry for each Listen
def _packed_key(key: object) -> bytes:
    return pickle.dumps(key)


@lru_cache(maxsize=1024)
def _unpacked_key(data: bytes) -> object:
    key: object = pickle.loads(data)  # noqa: S301 - only the supervisor can write to the socket
    return key
