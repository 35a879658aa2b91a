"""A listening socket: its address, its accept loop, and its end."""

import socket
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Self, TypeAlias, TypeVar

import trio
from attrs import define, field

from triosmtp.sockets.listener import accept_connections, unlink_own_socket
from triosmtp.sockets.peer import Peer

__all__ = ["ListeningSocket", "OnAccept", "close_sockets"]

S = TypeVar("S", bound="ListeningSocket")
OnAccept: TypeAlias = Callable[[S, socket.socket, Peer], None]
"""Called with a listening socket, the socket of a new connection, and its peer."""


@define(slots=True, eq=False)
class ListeningSocket:
    """A socket that listens."""

    sock: socket.socket
    external: bool = field(default=False, kw_only=True)
    """Whether another process owns the socket (systemd does): it keeps its path and mode, and is never replaced."""
    address: tuple[str, int] | str = field(init=False)
    """The bound address: host and port, or a path."""
    _accepting: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    _inode: int = field(default=0, init=False)  # of the path, when it was bound

    def __attrs_post_init__(self) -> None:
        name = self.sock.getsockname()
        self.address = name if isinstance(name, str) else (name[0], name[1])
        if isinstance(name, str):
            self._inode = Path(name).lstat().st_ino

    @property
    def is_closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self.sock.fileno() < 0

    async def accept(self, on_accept: OnAccept[Self], capacity: Callable[[], int] | None = None) -> None:
        """Accept connections until :meth:`close`, and call ``on_accept`` with each.

        ``capacity`` returns how many more connections can be served now.  Further ones wait in the backlog.
        """
        with self._accepting:
            await accept_connections(self.sock, partial(on_accept, self), capacity)

    def unlink(self) -> None:
        """Remove the path of a Unix socket: no new client can connect.  An external socket keeps its path."""
        if isinstance(self.address, str) and not self.external:
            unlink_own_socket(Path(self.address), self._inode)

    def close(self, *, unlink: bool = True) -> None:
        """End the accept loop and close the socket."""
        self._accepting.cancel()
        if unlink:
            self.unlink()
        self.sock.close()


def close_sockets(sockets: Iterable[ListeningSocket]) -> None:
    """Close listening sockets."""
    for each in sockets:
        each.close()
