"""Connections to Unix sockets, as a client.

The backlog of a listening Unix socket may be full.  Then a connect that does not block fails with EAGAIN, and is not in
progress, unlike one of TCP (connect(2)).  :func:`trio.open_unix_socket` waits for its end all the same.  It returns a
stream without a connection, which breaks at its first use.  A blocking connect waits, and so does this one.
"""

import os
import socket
from typing import Final

import trio

__all__ = ["connect_unix_socket"]

_FIRST_DELAY: Final = 0.005
_MAX_DELAY: Final = 0.1  # seconds until a full backlog is tried again


async def connect_unix_socket(path: str | os.PathLike[str]) -> trio.SocketStream:
    """Return a connection to the Unix socket at ``path``; the deadline is that of the caller's cancel scope.

    :raises OSError: if nobody listens there.
    """
    await trio.lowlevel.checkpoint()
    delay = _FIRST_DELAY
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.connect(os.fspath(path))
        except BlockingIOError:
            sock.close()
        except BaseException:
            sock.close()
            raise
        else:
            return trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        await trio.sleep(delay)
        delay = min(2 * delay, _MAX_DELAY)
