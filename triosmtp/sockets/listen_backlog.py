"""Close listening sockets without resetting the connections in their backlog.

The kernel establishes a connection long before accept(2).  If the listening socket is closed, the kernel resets the
connections in its backlog, even if their clients have sent data.  So closing has three steps:

1. :func:`stop_syn`: a filter on the socket drops SYNs.  A client repeats its SYN after a second and is refused then.
   ACKs of handshakes that have begun still pass.  A Unix socket loses its path.
2. :func:`drain_backlog`: the connections in the backlog are accepted.
3. The socket is closed.
"""

import ctypes
import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Final

import trio

from triosmtp.sockets.bound_socket import BoundSocket
from triosmtp.sockets.listener import accept_pending
from triosmtp.sockets.peer import Peer

__all__ = ["drain_backlog", "stop_syn"]

_SO_ATTACH_FILTER: Final = 26
_MAX_BACKLOG: Final = 1 << 16
_HANDSHAKE_SECONDS: Final = 0.2
"""Seconds that a client has to answer a SYN-ACK."""

# Classic BPF (linux/filter.h).  The filter of a socket sees a packet from its TCP header on.  Each instruction is a
# code, the jumps if true and if false, and a constant.
_DROP_SYN: Final = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the byte with the flags
        (0x54, 0, 0, 0x12),  # mask SYN and ACK
        (0x15, 0, 1, 0x02),  # is it SYN without ACK?
        (0x06, 0, 0, 0),  # if so, drop the packet
        (0x06, 0, 0, 0xFFFFFFFF),  # else pass all of it
    )
)


def stop_syn(bound: BoundSocket) -> None:
    """Let no new client connect; the backlog stays.  An external socket is not changed."""
    if bound.external:
        return
    if isinstance(bound.address, str):
        bound.unlink()
        return
    program = ctypes.create_string_buffer(_DROP_SYN)
    # struct sock_fprog: the number of instructions and their address.
    filter_ = struct.pack("@HP", len(_DROP_SYN) // 8, ctypes.addressof(program))
    with suppress(OSError):  # without such filters in the kernel, a few connections may be reset
        bound.sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)


async def drain_backlog(
    sockets: Iterable[BoundSocket], on_accept: Callable[[BoundSocket, socket.socket, Peer], None]
) -> None:
    """Accept all connections in the backlogs after :func:`stop_syn`, and call ``on_accept`` with each."""
    own = [bound for bound in sockets if not bound.external]
    _accept_all(own, on_accept)
    if any(not isinstance(bound.address, str) for bound in own):
        await trio.sleep(_HANDSHAKE_SECONDS)
        _accept_all(own, on_accept)


def _accept_all(sockets: Iterable[BoundSocket], on_accept: Callable[[BoundSocket, socket.socket, Peer], None]) -> None:
    for bound in sockets:
        with suppress(OSError):  # no descriptor is left: these connections are reset
            accept_pending(bound.sock, partial(on_accept, bound), _MAX_BACKLOG)
