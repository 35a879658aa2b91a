"""What a session reads from and writes to: the transport, or TLS on it, and the replies that neither has taken yet.

A reply that leaves ``out`` is sent, or the transport keeps it, even if the session is cancelled.  So a reply that was
decided can be sent in front of the last one.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final

import trio

from triosmtp.sockets.transport import SocketTransport
from triosmtp.tls import ServerContext, TLSStream, channel_binding
from triosmtp.tls.engine import Engine
from triosmtp.tls.handshake import timed_handshake
from triosmtp.tls.large_flight import AcquireThread
from triosmtp.variables import TLSInfo

__all__ = ["SessionStream"]

_ALERT_SECONDS: Final = 1.0


class SessionStream:
    """The stream of one session."""

    __slots__ = ("_stream", "_tls", "_transport", "engine", "fd", "out", "receive", "receive_now", "start_send")

    def __init__(self, transport: trio.abc.Stream) -> None:
        self._transport = transport if isinstance(transport, SocketTransport) else _Transport(transport)
        self._tls: TLSStream[trio.abc.Stream] | None = None
        self._stream: SocketTransport | _Transport | TLSStream[trio.abc.Stream] = self._transport
        self.fd: int | None = None
        """The socket to wait for before ``receive_now``; None if only ``receive`` can be used."""
        self.engine: Engine | None = None
        """The engine of TLS, if there is TLS: without its ``needs_ciphertext`` only ``receive`` can be used."""
        self.receive_now: Callable[[int], bytes | None] = _receive_nothing
        """Receives what ``receive`` would, without a coroutine; None if that must do it after all."""
        if isinstance(transport, SocketTransport):
            self.fd, self.receive_now = transport.fd, transport.receive_now
        self.out: list[bytes] = []
        """Replies to be sent."""
        self.receive: Callable[[int], Awaitable[bytes | bytearray]] = self._stream.receive_some
        """Receives at most so many octets; ``b""`` if the peer has closed."""
        self.start_send: Callable[[bytes], bool] = self._stream.start_send
        """Sends what is in ``out`` if it can at once; then clear ``out``.  Otherwise call ``finish_send``."""

    async def finish_send(self) -> None:
        """Send the rest of ``out``, which :attr:`start_send` was given and has not sent."""
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
        except trio.Cancelled:
            if self._stream.unsent:  # then it has taken all of it
                self.out.clear()
            raise
        self.out.clear()
        await self._stream.finish_send()

    @property
    def encrypted(self) -> bool:
        """Whether TLS is up."""
        return self._tls is not None

    @property
    def unsent(self) -> bool:
        """Whether something was begun to be sent, and the kernel has not taken it yet."""
        return self._stream.unsent

    @property
    def is_gone(self) -> Callable[[], bool]:
        """Returns whether the peer has disconnected."""
        return self._transport.is_gone

    async def start_tls(
        self, context: ServerContext, on_hello: Callable[[], None], acquire_thread: AcquireThread
    ) -> TLSInfo:
        """Carry out the handshake; return what it established.  The caller cancels it if it is too late.

        :raises HandshakeError: as :func:`triosmtp.tls.handshake.timed_handshake` does.
        """
        transport = self._transport
        raw = transport if isinstance(transport, SocketTransport) else transport.stream
        tls, info = await timed_handshake(context, raw, on_hello, acquire_thread=acquire_thread)
        self._tls = self._stream = tls
        self.engine = tls.engine
        if not tls.may_receive_now:
            self.fd = None
        self.receive, self.receive_now, self.start_send = tls.receive_some, tls.receive_now, tls.start_send
        return info

    def take_decrypted(self, max_bytes: int) -> bytes:
        """Take what the client has sent right behind the handshake; ``b""`` if :attr:`receive` must."""
        assert self._tls is not None, "the handshake is done"
        return self._tls.take_decrypted(max_bytes)

    def bindings(self) -> Callable[[str], bytes | None]:
        """Return a function that returns the data of a channel binding by its type, over TLS."""
        assert self._tls is not None, "the handshake is done"
        return partial(channel_binding, self._tls)

    def renegotiated(self) -> TLSInfo | None:
        """Return what a renegotiation since the last call has established, if there was one."""
        assert self._tls is not None, "the handshake is done"
        return self._tls.renegotiated()

    def acknowledge(self) -> None:
        """Let the kernel acknowledge the received data at once, instead of together with the next reply."""
        self._transport.acknowledge()

    async def flush(self) -> None:
        """Send what is in ``out``, and what a cancelled call has left."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.start_send(b"".join(self.out)):
            self.out.clear()
        else:
            await self.finish_send()

    async def finish(self, *, renegotiable: bool = False) -> None:
        """Send what is in ``out``, and our close_notify behind it in the same packet.

        The peer's close_notify is not waited for: many never send one.  A TLS stream whose sending was cancelled takes
        nothing more, but its engine does, and the transport still has the rest of what was encrypted.  If the client
        has just begun to renegotiate, only the stream can wait for it: ``renegotiable`` is whether it may.
        """
        if self._tls is None:
            if (self.out or self.unsent) and not self.start_send(b"".join(self.out)):
                await self.finish_send()
            self.out.clear()
            return
        if renegotiable and self.out:
            await self.flush()
        await trio.lowlevel.checkpoint_if_cancelled()
        last = b"".join(self.out)
        self.out.clear()
        await self._tls.send_close_notify(last)
        if self.unsent:  # its close_notify is a part of that
            await self._transport.send_all(b"")

    async def send_alert(self) -> tuple[str, str] | None:
        """Send the alert if it was TLS that broke, and not the connection below it (RFC 8446, section 6.2).

        Return ``tls_alert`` and the name of the peer's alert, or ``tls_error`` and the reasons; None if TLS is intact.
        """
        tls = self._tls
        broken = None if tls is None else tls.broken_by()
        if broken is not None and tls is not None:
            with trio.move_on_after(_ALERT_SECONDS), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await tls.send_alert()
        return broken

    async def linger(self, seconds: float) -> None:
        """Let the peer read what was sent last: it may be in the middle of a pipelined group, or of a body."""
        await self._transport.linger(seconds)

    async def close(self) -> None:
        """Close the transport and free the memory of TLS.  A socket is closed without waiting."""
        if self._tls is not None:
            self._tls.release()
        if isinstance(self._transport, SocketTransport):
            self._transport.close()  # what was sent is the kernel's to deliver
        else:
            await trio.aclose_forcefully(self._transport.stream)


def _receive_nothing(max_bytes: int) -> None:
    """Return None: ``receive`` must do it."""
    del max_bytes


class _Transport:
    """Any other stream, used like a :class:`SocketTransport`."""

    __slots__ = ("_data", "receive_some", "send_all", "stream")

    unsent: Final = False

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.receive_some = stream.receive_some
        self.send_all = stream.send_all
        self._data = b""

    def start_send(self, data: bytes) -> bool:
        """Take ``data`` for :meth:`finish_send`."""
        self._data = data
        return False

    async def finish_send(self) -> None:
        """Send what :meth:`start_send` took."""
        data, self._data = self._data, b""
        await self.send_all(data)

    def is_gone(self) -> bool:
        """Return False: it is not known."""
        return False

    def acknowledge(self) -> None:
        """Return at once: there is no kernel that delays acknowledgements."""

    async def linger(self, seconds: float) -> None:
        """Return at once: the peer can read the data after the end."""
