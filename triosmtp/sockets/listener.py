"""Make listening sockets from addresses, and accept connections."""

import errno
import logging
import os
import socket
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import trio

from triosmtp.config import Listen, Settings, TCPAddress, UnixAddress
from triosmtp.sockets.peer import Peer, peer_from_sockaddr

__all__ = [
    "accept_connections",
    "accept_pending",
    "bind_unix",
    "family_of",
    "open_listening_socket",
    "open_unix_socket",
    "unlink_own_socket",
]

_log = logging.getLogger("triosmtp.server")

_ACCEPTS_PER_TURN: Final = 64
"""The number of connections that are accepted before the sessions run again."""
_RETRY_SECONDS: Final = 0.1
"""Seconds until accept(2), or the capacity for connections, is tried again."""
_REPEAT_LOG_SECONDS: Final = 10.0
"""Seconds before the same problem is logged again."""
_CONNECTION_ERRORS: Final = {
    errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.ENETUNREACH, errno.ENONET, errno.EHOSTDOWN,
    errno.EHOSTUNREACH, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.ECONNRESET, errno.ETIMEDOUT,
}  # fmt: skip
"""Errors of accept(2) that concern one connection and not the listening socket."""


def open_listening_socket(
    listen: Listen, settings: Settings, all_listens: Iterable[Listen], replaced_sockets: Iterable[socket.socket] = ()
) -> socket.socket:
    """Open the socket of ``listen``.  A wildcard leaves the IPv6 port free that another of ``all_listens`` needs.

    ``replaced_sockets`` are listening sockets of this process that will be closed.  The new socket can have the
    address of one of them while that is still open.

    :raises OSError: if the kernel refuses: the address is in use or not local, or the port is privileged.
    """
    address = listen.address
    if isinstance(address, UnixAddress):
        return open_unix_socket(address, settings.listen_backlog)
    same = [each for each in replaced_sockets if _port_of(each) == address.port]
    with _reuse_port(same):
        sock = _bind_tcp(address, settings, all_listens, shared=bool(same))
    sock.setblocking(False)
    return sock


def open_unix_socket(address: UnixAddress, backlog: int) -> socket.socket:
    """Open a listening Unix socket.

    :raises OSError: as :func:`bind_unix`.
    """
    sock = bind_unix(address)
    try:
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _port_of(sock: socket.socket) -> int | None:
    return None if sock.family == socket.AF_UNIX else sock.getsockname()[1]


@contextmanager
def _reuse_port(sockets: Iterable[socket.socket]) -> Iterator[None]:
    """Let other sockets of this user bind the addresses of ``sockets`` until the block ends."""
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        yield
    finally:
        for sock in sockets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)


def _bind_tcp(
    address: TCPAddress, settings: Settings, all_listens: Iterable[Listen], *, shared: bool = False
) -> socket.socket:
    family, host, dual = family_of(address, all_listens)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        # Accepted sockets inherit these options: no system call for each connection.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(settings.disable_nagle_algorithm))
        if settings.tcp_recv_buffer_size:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, settings.tcp_recv_buffer_size)
        if settings.tcp_send_buffer_size:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, settings.tcp_send_buffer_size)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
        sock.bind((host, address.port))
        sock.listen(settings.listen_backlog)  # the kernel checks for conflicts again
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
    except BaseException:
        sock.close()
        raise
    return sock


def family_of(address: TCPAddress, all_listens: Iterable[Listen]) -> tuple[socket.AddressFamily, str, bool]:
    """Return the address family, the host, and whether an IPv6 socket accepts IPv4 as well."""
    if address.host is not None:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        return family, address.host, False
    if address.ipv6:
        return socket.AF_INET6, "::", False
    # All IPv4 addresses; IPv6, too, if the kernel maps addresses and no other Listen has that port on IPv6.
    is_taken = any(
        isinstance(other.address, TCPAddress)
        and other.address is not address
        and other.address.port == address.port != 0
        and (other.address.ipv6 or ":" in (other.address.host or ""))
        for other in all_listens
    )
    if is_taken or not socket.has_dualstack_ipv6():
        return socket.AF_INET, "0.0.0.0", False  # noqa: S104 - the operator wrote a wildcard
    return socket.AF_INET6, "::", True


def bind_unix(address: UnixAddress) -> socket.socket:
    """Bind a Unix socket.  A socket that a dead process left at the path is replaced.

    :raises OSError: if that is not possible: another process answers there, or the folder is not writable.
    """
    path = Path(address.path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        # No client may connect between bind and chmod.  Linux creates the file with the mode of the unbound socket
        # minus the umask.  The umask cannot be used: other threads create files with it at the same time.
        os.fchmod(sock.fileno(), 0o600)
        sock.bind(str(path))
        path.chmod(address.mode)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: Path) -> None:
    """Remove a socket that a dead process left.  A socket that answers is in use."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "is there already, and is not a socket", str(path))
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)  # a socket with a full backlog does not answer, and is in use
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            _log.debug("%s: %s", path, error)
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), str(path))


def unlink_own_socket(path: Path, inode: int) -> None:
    """Remove the path of a Unix socket, unless another process has replaced the socket there."""
    with suppress(FileNotFoundError):
        if path.lstat().st_ino == inode:
            path.unlink()


async def accept_connections(
    sock: socket.socket, on_accept: Callable[[socket.socket, Peer], None], capacity: Callable[[], int] | None = None
) -> None:
    """Accept until cancelled or until the socket is closed, and call ``on_accept`` with each connection.

    Other errors are logged, and accept(2) is tried again: no file descriptor or memory is left, for example.
    ``capacity`` returns how many connections can be served now.  Further ones wait in the kernel's backlog.
    """
    logged, failed = -_REPEAT_LOG_SECONDS, False
    while sock.fileno() >= 0:  # it may be closed before this task runs for the first time
        await trio.lowlevel.wait_readable(sock)
        most = _ACCEPTS_PER_TURN
        if capacity is not None and (free := capacity()) < most:
            if free <= 0:
                await trio.sleep(_RETRY_SECONDS)
                continue
            most = free
        try:
            accept_pending(sock, on_accept, most)
        except OSError as error:
            if sock.fileno() < 0:
                return
            if trio.current_time() >= logged + _REPEAT_LOG_SECONDS:
                logged, failed = trio.current_time(), True
                _log.error("cannot accept a connection: %s; trying again every 0.1 s", error.strerror)
            await trio.sleep(_RETRY_SECONDS)
        else:
            if failed:
                failed = False
                _log.warning("connections are accepted again")


def accept_pending(sock: socket.socket, on_accept: Callable[[socket.socket, Peer], None], limit: int) -> None:
    """Accept up to ``limit`` connections that wait in the kernel's backlog, and call ``on_accept`` with each.

    If ``on_accept`` raises an exception, it is logged and the connection is closed.

    :raises OSError: if no connection can be accepted: no descriptor or memory is left, or the socket is closed.
    """
    listening: Any = sock
    for _ in range(limit):
        try:
            fd, address = listening._accept()  # noqa: SLF001 - accept() calls it, and makes two members of an Enum
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in _CONNECTION_ERRORS:
                raise
            continue  # the peer has disconnected already
        accepted = socket.socket(fileno=fd)
        try:
            accepted.setblocking(False)
            on_accept(accepted, peer_from_sockaddr(address))
        except Exception:  # noqa: BLE001 - an error of one connection must not end the accept loop
            accepted.close()
            _log.exception("an accepted connection cannot be served: it is closed")
