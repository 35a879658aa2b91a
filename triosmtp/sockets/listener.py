"""Listening sockets: from a Listen's address to a socket, and the loop that accepts from it."""

import errno
import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import trio
from attrs import Factory, frozen

from triosmtp.config import Listen, Settings, TCPAddress, UnixAddress

__all__ = [
    "Peer",
    "accept_connections",
    "accept_pending",
    "bind",
    "bind_unix",
    "family_of",
    "local_address_of",
    "peer_from_sockaddr",
    "unlink_own_socket",
]

_log = logging.getLogger("triosmtp.server")

_ACCEPTS_PER_TURN = 64  # then the sessions get their turn
_TELL_AGAIN = 10.0
"""Seconds from one line of the log about the same trouble to the next."""
_LOST = {
    errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.ENETUNREACH, errno.ENONET, errno.EHOSTDOWN,
    errno.EHOSTUNREACH, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.ECONNRESET, errno.ETIMEDOUT,
}  # fmt: skip
"""Errors of accept(2) that are about the one connection, not about the listening socket."""


@frozen(slots=False)  # made in half the time
class Peer:
    """Where a connection came from, or where a proxy says that it did."""

    text: str
    address: IPv4Address | IPv6Address | None
    port: int | None = None
    local: str = ""
    """What it connected to, by the word of a proxy."""
    announced: Mapping[str, str] = Factory(dict)
    """What else the proxy said, as variables of the session."""


_UNIX_PEER = Peer("unix", None)


def local_address_of(sock: socket.socket) -> IPv4Address | IPv6Address:
    """Return the address that a TCP connection came to; an IPv4-mapped IPv6 address becomes IPv4."""
    return _parsed(_unmapped(sock.getsockname()[0]))


def _unmapped(host: str) -> str:
    return host[7:] if host.startswith("::ffff:") and "." in host else host


def peer_from_sockaddr(address: object) -> Peer:
    """Give the peer for a socket address as ``accept`` returned it; an IPv4-mapped IPv6 address becomes IPv4."""
    if not isinstance(address, tuple):
        return _UNIX_PEER
    host, port = _unmapped(address[0]), address[1]
    return Peer(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", _parsed(host.partition("%")[0]), port)


@lru_cache(maxsize=4096)
def _parsed(host: str) -> IPv4Address | IPv6Address:
    return ip_address(host)


def bind(
    listen: Listen, settings: Settings, others: Iterable[Listen], leaving: Iterable[socket.socket] = ()
) -> socket.socket:
    """Open the listening socket of ``listen``; ``others`` are the Listens that it must leave room for.

    ``leaving`` are listening sockets of ours that are about to be closed: the new one may take the place of one of
    them while that is still open.

    :raises OSError: where the kernel refuses: the address is in use, or not ours, or the port is privileged.
    """
    address = listen.address
    if isinstance(address, UnixAddress):
        sock = bind_unix(address)
        try:
            sock.listen(settings.listen_backlog)
        except BaseException:
            sock.close()
            raise
    else:
        same = [each for each in leaving if each.family != socket.AF_UNIX and each.getsockname()[1] == address.port]
        with _yielding(same):
            sock = _bind_tcp(address, settings, others, shared=bool(same))
    sock.setblocking(False)
    return sock


@contextmanager
def _yielding(sockets: Iterable[socket.socket]) -> Iterator[None]:
    """Let others of the same user bind the addresses of ``sockets``, as long as the block lasts."""
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        yield
    finally:
        for sock in sockets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)


def _bind_tcp(
    address: TCPAddress, settings: Settings, others: Iterable[Listen], *, shared: bool = False
) -> socket.socket:
    family, host, dual = family_of(address, others)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        # Accepted sockets inherit these: no system call for each connection.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(settings.disable_nagle_algorithm))
        if settings.tcp_recv_buffer_size:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, settings.tcp_recv_buffer_size)
        if settings.tcp_send_buffer_size:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, settings.tcp_send_buffer_size)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
        sock.bind((host, address.port))
        sock.listen(settings.listen_backlog)  # looks for conflicts once more
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
    except BaseException:
        sock.close()
        raise
    return sock


def family_of(address: TCPAddress, others: Iterable[Listen]) -> tuple[socket.AddressFamily, str, bool]:
    """Give address family, host, and whether an IPv6 socket takes IPv4 as well; ``others`` are all the Listens."""
    if address.host is not None:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        return family, address.host, False
    if address.ipv6:
        return socket.AF_INET6, "::", False
    # All IPv4 addresses, and IPv6 where the kernel maps them and no other Listen asks for that port on IPv6.
    taken = any(
        isinstance(other.address, TCPAddress)
        and other.address is not address
        and other.address.port == address.port != 0
        and (other.address.ipv6 or ":" in (other.address.host or ""))
        for other in others
    )
    if taken or not socket.has_dualstack_ipv6():
        return socket.AF_INET, "0.0.0.0", False  # noqa: S104 - the operator wrote a wildcard
    return socket.AF_INET6, "::", True


def bind_unix(address: UnixAddress) -> socket.socket:
    """Bind a Unix socket, in the place of one that a dead process left.

    :raises OSError: where that is not possible: another process answers there, or the folder is not ours.
    """
    path = Path(address.path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        # Nobody may connect between bind and chmod.  Linux makes the file with the mode of the unbound socket, less the
        # umask; the umask itself belongs to the whole process, whose other threads create files meanwhile.
        os.fchmod(sock.fileno(), 0o600)
        sock.bind(str(path))
        path.chmod(address.mode)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: Path) -> None:
    """Remove a socket that a dead process left; one that is answered is in use."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "is there already, and is not a socket", str(path))
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)  # one that is not answered because its queue is full is in use, too
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            _log.debug("%s: %s", path, error)  # somebody is there who does not answer
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), str(path))


def unlink_own_socket(path: Path, inode: int) -> None:
    """Remove the path of a Unix socket that was bound there, unless another process has put its own in that place."""
    with suppress(FileNotFoundError):
        if path.lstat().st_ino == inode:
            path.unlink()


async def accept_connections(
    sock: socket.socket,
    take: Callable[[socket.socket, Peer], None],
    room: Callable[[], Awaitable[int]] | None = None,
) -> None:
    """Accept until cancelled, and hand each connection to ``take``.

    Errors are logged and waited out: no file descriptors or memory left, or one that nobody expects.  Only a closed
    socket ends the loop.  ``room`` waits until there is some, and gives for how many connections; meanwhile they wait
    in the kernel's queue.
    """
    told, starved = -_TELL_AGAIN, False
    while sock.fileno() >= 0:  # it may be closed before this task had its first turn
        await trio.lowlevel.wait_readable(sock)
        most = _ACCEPTS_PER_TURN if room is None else min(_ACCEPTS_PER_TURN, await room())
        try:
            accept_pending(sock, take, most)
        except OSError as error:
            if sock.fileno() < 0:
                return
            if trio.current_time() >= told + _TELL_AGAIN:
                told, starved = trio.current_time(), True
                _log.error("cannot accept a connection: %s; trying again every 0.1 s", error.strerror)
            await trio.sleep(0.1)
        else:
            if starved:
                starved = False
                _log.warning("connections are accepted again")


def accept_pending(sock: socket.socket, take: Callable[[socket.socket, Peer], None], limit: int) -> None:
    """Accept what waits in the kernel's queue, up to ``limit`` connections, and hand each to ``take``.

    A connection that ``take`` fails at is closed; the failure is logged.

    :raises OSError: if nothing can be accepted: no descriptors or no memory left, or the socket is closed.
    """
    for _ in range(limit):
        try:
            accepted, address = sock.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in _LOST:
                raise
            continue  # that peer has gone again
        try:
            accepted.setblocking(False)
            take(accepted, peer_from_sockaddr(address))
        except Exception:  # noqa: BLE001 - one connection's failure must not end the accept loop
            accepted.close()
            _log.exception("an accepted connection cannot be served: it is closed")
