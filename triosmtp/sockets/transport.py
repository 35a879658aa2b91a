"""The transport stream under everything: a thin Trio stream over a non-blocking socket.

It does less than ``trio.SocketStream``, which halves the cost of a turn.  An SMTP server waits for its peer at every
turn, so a read waits first and then calls the kernel once.  Replies nearly always fit the kernel's buffer, so a write
calls the kernel first and waits only if that is necessary.  A write that does not wait is no checkpoint: it ignores
cancellation, so that a reply that can be sent is sent.  Every read is a checkpoint.

Data of ``send_all`` stay here until the kernel has taken them.  A send that is cancelled loses nothing: the next one
sends the rest first.  So the last reply of a session is never inside another one, and an encrypted TLS record is sent.
"""

import select
import socket
from contextlib import suppress
from errno import EBADF
from typing import Final

import trio

from triosmtp.message.spool import SMALL_READ, read_size

__all__ = ["SocketTransport", "refuse_connection"]

_DEFAULT_READ: Final = 65536
_wait_readable: Final = trio.lowlevel.wait_readable  # found once
_LINGER_BYTES: Final = 4 << 20


class SocketTransport(trio.abc.HalfCloseableStream):
    """A connected, non-blocking stream socket as a Trio stream.  The socket belongs to it."""

    __slots__ = ("_sending", "_socket", "_unsent", "fd")

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.fd = sock.fileno()
        """The descriptor; -1 when it is closed.  To be waited for before :meth:`receive_now`."""
        self._unsent: bytes | bytearray | memoryview = b""
        self._sending = False  # whether a task waits to send the rest

    @property
    def unsent(self) -> bool:
        """Whether a cancelled send has left something."""
        return bool(self._unsent)

    def start_send(self, data: bytes | bytearray | memoryview) -> bool:
        """Send what a cancelled send has left, then ``data``, as far as the kernel takes it at once.

        Return whether it took all.  If not, call :meth:`finish_send`; ``data`` must not change until then.

        :raises trio.BrokenResourceError: if the connection is gone.
        :raises trio.BusyResourceError: if another task is sending.
        :raises trio.ClosedResourceError: if this end was closed.
        """
        if self._unsent:
            if self._sending:
                raise trio.BusyResourceError("another task is sending")
            data = b"".join((self._unsent, data))
            self._unsent = b""
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise _translated(error) from None
        if sent == len(data):
            return True
        self._unsent = memoryview(data)[sent:]
        return False

    async def finish_send(self) -> None:
        """Send what :meth:`start_send` has left.

        :raises trio.BrokenResourceError: if the connection is gone.
        :raises trio.ClosedResourceError: if this end was closed.
        """
        while self._unsent:
            self._sending = True
            try:
                await trio.lowlevel.wait_writable(self._socket)
            finally:
                self._sending = False
            self.start_send(b"")

    def take_unsent(self) -> bytes | bytearray | memoryview:
        """Return what :meth:`start_send` has left, for a caller that sends it in another way."""
        unsent, self._unsent = self._unsent, b""
        return unsent

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send what a cancelled send has left, then all of ``data``, which must not change until it is sent.

        :raises trio.BrokenResourceError: if the connection is gone.
        :raises trio.BusyResourceError: if another task is sending.
        :raises trio.ClosedResourceError: if this end was closed.
        """
        if not self.start_send(data):
            await self.finish_send()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the kernel takes data again."""
        if self._socket.fileno() < 0:
            raise trio.ClosedResourceError
        await trio.lowlevel.wait_writable(self._socket)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive what is there, at least one byte; ``b""`` when the peer has closed its side.

        It is less than ``max_bytes`` while message bodies take much of the memory.

        :raises trio.BrokenResourceError: if the connection is gone.
        :raises trio.ClosedResourceError: if this end was closed.
        """
        fd = self.fd
        if fd < 0:
            raise trio.ClosedResourceError
        while True:
            await _wait_readable(fd)
            try:  # as receive_now(), without its frame
                if not max_bytes or max_bytes > SMALL_READ:
                    return self._socket.recv(read_size(max_bytes or _DEFAULT_READ))
                return self._socket.recv(max_bytes)
            except BlockingIOError:
                continue
            except OSError as error:
                raise _translated(error) from None

    def receive_now(self, max_bytes: int) -> bytes | None:
        """Receive what :meth:`receive_some` would, after its wait; None if there was nothing after all.

        For loops in which a coroutine for each read would cost too much.

        :raises trio.BrokenResourceError: if the connection is gone.
        :raises trio.ClosedResourceError: if this end was closed.
        """
        try:
            return self._socket.recv(max_bytes if max_bytes <= SMALL_READ else read_size(max_bytes))
        except BlockingIOError:
            return None
        except OSError as error:
            raise _translated(error) from None

    def is_gone(self) -> bool:
        """Return whether the peer has closed its side or reset the connection, also if it has sent data before that."""
        if self._socket.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(self._socket, select.POLLRDHUP)  # errors and hang-ups are always told
        return bool(poll.poll(0))

    def acknowledge(self) -> None:
        """Make the kernel acknowledge received data now, not together with the next data, or 40 ms later."""
        with suppress(OSError):  # a Unix socket, or a peer that has gone
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    async def send_eof(self) -> None:
        """Close the sending side."""
        await trio.lowlevel.checkpoint()
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise _translated(error) from None

    async def linger(self, seconds: float) -> None:
        """Close the sending side, and take what the peer sends until it has closed, too, or the time is up.

        Closing with something unread resets the connection, and a reset takes from the peer what it has not read yet:
        our last words.  So a bounded amount is read and thrown away.
        """
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            return
        left = _LINGER_BYTES
        with trio.move_on_after(seconds), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while left > 0:
                data = await self.receive_some()
                if not data:
                    return
                left -= len(data)

    def close(self) -> None:
        """Close at once, in the task that uses it: no other may wait for it.  May be called again."""
        self.fd = -1
        self._socket.close()

    async def aclose(self) -> None:
        """Close at once; a task that waits for it gets an exception."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self.fd = -1
            self._socket.close()
        await trio.lowlevel.checkpoint()


def _translated(error: OSError) -> Exception:
    if error.errno == EBADF:
        return trio.ClosedResourceError("this connection was closed on our side")
    return trio.BrokenResourceError(f"connection lost: {error.strerror}")


def refuse_connection(sock: socket.socket, reason: bytes) -> None:
    """Send ``reason`` on a new connection and close it.  Never wait: an empty buffer takes one line at once."""
    with sock, suppress(OSError):  # the peer has gone
        sock.send(reason)
