"""The end of a listening socket: nobody new comes in, and nobody who waits in its queue is reset.

A connection is made by the kernel, long before it is accepted.  Those that wait when a listening socket is closed are
reset, whatever their clients have sent by then.  So the door is shut first, with the socket still open: a filter on it
drops SYNs (a client sends another one after a second, and is then refused), and lets the ACKs of handshakes that have
begun pass; a Unix socket loses its path.  Then the queue is emptied, and nothing is left to be reset.
"""

import ctypes
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import trio

from triosmtp.sockets.bound_socket import Binding
from triosmtp.sockets.listener import Peer, accept_pending, unlink_own_socket

__all__ = ["drain_backlog", "shut"]

_SO_ATTACH_FILTER: Final = 26
_ALL: Final = 1 << 16
_IN_FLIGHT: Final = 0.2
"""Seconds that a client has to answer our SYN-ACK."""

# Classic BPF (linux/filter.h), which a socket's filter sees from the TCP header on: code, jump if true and if false, k.
_DROP_SYN: Final = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the byte of the flags
        (0x54, 0, 0, 0x12),  # SYN and ACK of them
        (0x15, 0, 1, 0x02),  # SYN alone?
        (0x06, 0, 0, 0),  # then drop it
        (0x06, 0, 0, 0xFFFFFFFF),  # else let it pass whole
    )
)


def shut(binding: Binding) -> None:
    """Let nobody new in; those who wait in the queue stay.  A socket that somebody else keeps open is left alone."""
    if binding.given:
        return
    if isinstance(binding.address, str):
        unlink_own_socket(Path(binding.address), binding.inode)
        return
    program = ctypes.create_string_buffer(_DROP_SYN)
    # struct sock_fprog: how many instructions, and where they are.
    filter_ = struct.pack("@HP", len(_DROP_SYN) // 8, ctypes.addressof(program))
    with suppress(OSError):  # where the kernel has no such filters, a few may be reset
        binding.sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)


async def drain_backlog(bindings: list[Binding], take: Callable[[Binding, socket.socket, Peer], None]) -> None:
    """Hand everybody who waits in the queues of :func:`shut` sockets to ``take``."""
    ours = [binding for binding in bindings if not binding.given]
    _empty(ours, take)
    if any(not isinstance(binding.address, str) for binding in ours):
        await trio.sleep(_IN_FLIGHT)
        _empty(ours, take)


def _empty(bindings: list[Binding], take: Callable[[Binding, socket.socket, Peer], None]) -> None:
    for binding in bindings:
        with suppress(OSError):  # no descriptors are left: these are lost
            accept_pending(binding.sock, partial(take, binding), _ALL)
