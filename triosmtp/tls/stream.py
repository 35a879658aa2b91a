"""The encrypted stream of a session: a ``trio.SSLStream``, and a short way past it for the common read and write.

SSLStream takes locks and makes a checkpoint of its own at each call, and learns by an exception that there is nothing
to read.  That costs more than the encryption of a command.  A :class:`TLSStream` reads from the transport and decrypts,
or encrypts and writes to it, by itself as long as nothing else has to be done.  SSLStream does everything else.

``ssl_stream`` can be used at any moment, by any task, with the same result as if the short way did not exist.  It is
made when it is needed first: most sessions need none.

- **Nothing is left behind in an await.**  A record is decrypted, or encrypted and given to the kernel, in one step.  If
  the kernel does not take all of it, SSLStream sends the rest, in the order of its locks.
- **No send overtakes one of SSLStream's.**  SSLStream holds its lock from encryption to the end of sending.  If the
  lock is held, SSLStream sends.
- **Data that SSLStream could read is left to it.**  The short way reads only if the engine needs ciphertext.  If two
  tasks read, the transport raises the error.  Data that came with the handshake are taken in one step, by either.
- **Answers of TLS itself, an end and an error are left to SSLStream**, with the plaintext before them.
- **SSLStream alone serves a client that may renegotiate**: there a write may have to read.

Two attributes of SSLStream are used that are not public, in this module alone: see :func:`_finish_handshake` and
:func:`_send_lock`.  If a version of Trio lacks them, SSLStream is made at once, and does the work.
"""

from collections.abc import Callable
from functools import cache
from time import perf_counter
from typing import Any, Final, Generic, Literal, TypeVar, cast

import trio

from triosmtp.tls.engine import FLUSH, Engine
from triosmtp.tls.handshake_failure import alert_name
from triosmtp.tls.handshake_scheduler import HANDSHAKE_SCHEDULER
from triosmtp.tls.tls_info import tls_info
from triosmtp.variables import TLSInfo

__all__ = ["TLSStream", "open_stream"]

Transport = TypeVar("Transport", bound=trio.abc.Stream)

_DEFAULT_READ: Final = 65536


class TLSStream(trio.abc.Stream, Generic[Transport]):
    """A server's TLS connection whose handshake is done; :func:`open_stream` makes it.

    One task may receive while another one sends.  Call :meth:`release` at the end, in any case.
    """

    __slots__ = ("_below", "_receive", "_send_lock", "_ssl_stream", "_start", "_waiting", "engine", "transport")

    def __init__(self, transport: Transport, engine: Engine, below: Transport | None = None) -> None:
        self.transport = transport
        self.engine = engine
        self._below = below or transport
        self._ssl_stream: trio.SSLStream[Transport] | None = None
        self._send_lock: trio.StrictFIFOLock | None = None  # of SSLStream
        self._receive: Callable[[int], bytes | None] = getattr(transport, "receive_now", _receive_nothing)
        self._start: Callable[[bytes], bool] | None = getattr(transport, "start_send", None)
        self._waiting: bytes | bytearray | memoryview = b""

    @property
    def may_receive_now(self) -> bool:
        """Whether :meth:`receive_now` can be used: the transport is a socket that can be waited for."""
        return self._receive is not _receive_nothing

    @property
    def ssl_stream(self) -> "trio.SSLStream[Transport]":
        """The stream that the connection is wrapped in."""
        stream = self._ssl_stream
        if stream is None:
            engine: Any = self.engine
            stream = trio.SSLStream(self._below, engine, server_side=True, https_compatible=True)
            self._ssl_stream, self._send_lock = stream, _send_lock(stream)
            if self._send_lock is None:
                self._start = None
            _finish_handshake(stream)
        return stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive and decrypt at least one byte; ``b""`` at the end, with or without close_notify.

        :raises trio.BrokenResourceError: if the connection is gone, or TLS broke (see :meth:`broken_by`).
        :raises trio.ClosedResourceError: if this end was closed.
        """
        engine, size = self.engine, _DEFAULT_READ if max_bytes is None else max_bytes
        while size > 0 and engine.needs_ciphertext:
            plaintext = engine.decrypt(await self.transport.receive_some(size), size)
            if plaintext:
                return plaintext
        if size > 0:
            await trio.lowlevel.checkpoint_if_cancelled()
            plaintext = engine.take_decrypted(size)
            if plaintext:
                await trio.lowlevel.cancel_shielded_checkpoint()
                return plaintext
        return await self.ssl_stream.receive_some(max_bytes)

    def receive_now(self, max_bytes: int) -> bytes | None:
        """Receive what :meth:`receive_some` would; None if it must do that after all.

        For loops in which coroutines for each read would cost too much, if :attr:`may_receive_now`.  The caller has
        found ``engine.needs_ciphertext`` true, and has waited for ``transport.fd`` since.

        :raises trio.BrokenResourceError: if the connection is gone.
        :raises trio.ClosedResourceError: if this end was closed.
        """
        ciphertext = self._receive(max_bytes)
        return None if ciphertext is None else self.engine.decrypt(ciphertext, max_bytes) or None

    def take_decrypted(self, max_bytes: int) -> bytes:
        """Take data that came right behind the handshake; ``b""`` if there are none, or :meth:`receive_some` must."""
        return self.engine.take_decrypted(max_bytes)

    def start_send(self, data: bytes | bytearray | memoryview) -> bool:
        """Encrypt and send ``data``, if nothing else is being sent and the kernel takes all of it at once.

        Return whether it did.  If not, call :meth:`finish_send`; ``data`` must not change until then.  It is no
        checkpoint, which :meth:`send_all` is.

        :raises trio.BrokenResourceError: if the connection is gone.
        :raises trio.ClosedResourceError: if this end was closed.
        """
        start, lock = self._start, self._send_lock
        if start is not None and data and (lock is None or not lock.locked()):
            ciphertext = self.engine.encrypt(data)
            if ciphertext:
                if start(ciphertext):
                    return True
                self.engine.put_back(cast("Any", self.transport).take_unsent())
                data = FLUSH
        self._waiting = data
        return False

    async def finish_send(self) -> None:
        """Send what :meth:`start_send` has left.

        :raises trio.BrokenResourceError: if the connection is gone, TLS broke, or sending was cancelled before.
        :raises trio.ClosedResourceError: if this end was closed.
        """
        data, self._waiting = self._waiting, b""
        await self.ssl_stream.send_all(data)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send all of ``data``.

        :raises trio.BrokenResourceError: if the connection is gone, TLS broke, or sending was cancelled before.
        :raises trio.ClosedResourceError: if this end was closed.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.start_send(data):
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            await self.finish_send()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the transport takes data again."""
        await self.ssl_stream.wait_send_all_might_not_block()

    @property
    def unsent(self) -> bool:
        """Whether a cancelled call has left something unsent."""
        return self.engine.unsent or getattr(self.transport, "unsent", False)

    def broken_by(self) -> tuple[Literal["tls_alert", "tls_error"], str] | None:
        """Return why TLS broke after the handshake; None if it did not: that the transport broke is not its fault.

        ``tls_alert``: the peer sent a fatal alert, with its name.  ``tls_error``: what the peer sent was refused, with
        OpenSSL's reasons.
        """
        failure = self.engine.failure
        if failure is None:
            return None
        alert = next(filter(None, map(alert_name, failure.split("; "))), None)
        return ("tls_error", failure) if alert is None else ("tls_alert", alert)

    def renegotiated(self) -> TLSInfo | None:
        """Return what a renegotiation since the last call established, or None if there was none.  Cheap.

        For settings that allow clients to renegotiate (TLS 1.2 and before): ask before each command, and replace all
        that was known of the client.  It may show another certificate this time, or none.
        """
        engine = self.engine
        if engine.verification.handshakes <= engine.handshakes_reported:
            return None
        engine.handshakes_reported = engine.verification.handshakes
        return tls_info(engine, certificate_requested=True)

    async def send_close_notify(self, last: bytes = b"") -> None:
        """Send our close_notify, behind all that was held back; the transport is left open.

        ``last`` is plaintext that goes before it, in the same packet; it is lost if a client that may renegotiate has
        just begun to.  Nothing may be under way on the stream.  The peer's close_notify is not waited for (RFC 8446,
        section 6.1, asks for no more).

        :raises trio.BrokenResourceError: if the connection is gone.
        """
        final = self.engine.close_notify(last)
        if final:
            await self.transport.send_all(final)

    async def send_alert(self) -> None:
        """Send what a broken session still has to say: what was held back, then the alert.

        Nothing may be under way on the stream.  The deadline is that of the caller's cancel scope.

        :raises trio.BrokenResourceError: if the connection is gone.
        """
        last = self.engine.pending_output()
        if last:
            await self.transport.send_all(last)

    def release(self) -> None:
        """Free OpenSSL's memory now: for a ``finally``, after any end.

        SSLStream is a cycle (it keeps a bound method of its own), so that it would otherwise live on until the garbage
        collector runs.
        """
        self.engine.release()

    async def aclose(self) -> None:
        """Close the transport at once, without close_notify, and free OpenSSL's memory."""
        self.engine.release()
        await (self.transport if self._ssl_stream is None else self._ssl_stream).aclose()


def _receive_nothing(max_bytes: int) -> None:
    """Return None, for a transport without such a method."""
    del max_bytes


class _RenegotiationTransport(trio.abc.Stream):
    """The transport below SSLStream if the client may renegotiate: a step of that waits for its turn.

    SSLStream passes the data to OpenSSL as soon as it has received them, and OpenSSL takes the step at once.
    """

    __slots__ = ("_engine", "_received", "_transport")

    def __init__(self, transport: trio.abc.Stream, engine: Engine) -> None:
        self._transport = transport
        self._engine = engine
        self._received: bytes | bytearray = b""  # Kept until the turn has come: waiting may be cancelled.

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if not self._received:
            self._received = await self._transport.receive_some(max_bytes)
        if self._engine.continues_handshake(self._received):
            await HANDSHAKE_SCHEDULER.wait_turn()
            self._engine.turn_began = perf_counter()
        data, self._received = self._received, b""
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._transport.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._transport.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._transport.aclose()


class RenegotiableStream(TLSStream[Transport]):
    """A stream whose client may renegotiate: SSLStream does all, since a write may have to read there."""

    __slots__ = ()

    def __init__(self, transport: Transport, engine: Engine) -> None:
        super().__init__(transport, engine, cast("Transport", _RenegotiationTransport(transport, engine)))

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive and decrypt at least one byte, as :meth:`TLSStream.receive_some` does."""
        return await self.ssl_stream.receive_some(max_bytes)

    @property
    def may_receive_now(self) -> bool:
        """Return False: SSLStream reads."""
        return False

    def take_decrypted(self, max_bytes: int) -> bytes:
        """Take nothing: :meth:`receive_some` must."""
        del max_bytes
        return b""

    def start_send(self, data: bytes | bytearray | memoryview) -> bool:
        """Send nothing yet: :meth:`finish_send` sends ``data``."""
        self._waiting = data
        return False


async def open_stream(transport: Transport, engine: Engine, *, may_renegotiate: bool) -> TLSStream[Transport]:
    """Make the stream of a connection whose handshake is done."""
    stream = (RenegotiableStream if may_renegotiate else TLSStream)(transport, engine)
    if not _has_private_parts():
        with trio.CancelScope(shield=True):  # one that is cancelled would break the stream; nothing is waited for
            await stream.ssl_stream.do_handshake()
    return stream


@cache
def _has_private_parts() -> bool:
    """Return whether SSLStream has what this module uses of it that is not public."""
    stream: trio.SSLStream[Any] = trio.SSLStream(cast("Any", None), cast("Any", _Probe()), server_side=True)
    return _send_lock(stream) is not None and _finish_handshake(stream)


class _Probe:
    """Stands for an engine."""

    def wrap_bio(self, *_: object, **_options: object) -> None:
        """Return nothing: the stream is not used."""


def _finish_handshake(stream: "trio.SSLStream[Any]") -> bool:
    """Mark SSLStream's handshake as done; return whether that was possible.

    SSLStream does its handshake at the first call, and a cancellation of that breaks it.  To have it do a handshake in
    which nothing is left to do costs as much as a command.
    """
    once = getattr(stream, "_handshook", None)
    done = getattr(once, "_done", None)
    if not isinstance(done, trio.Event) or not hasattr(once, "started"):
        return False
    cast("Any", once).started = True
    done.set()
    return True


def _send_lock(stream: "trio.SSLStream[Any]") -> trio.StrictFIFOLock | None:
    """Return the lock that SSLStream holds while it sends; None if this version of Trio has none of that name."""
    lock = getattr(stream, "_inner_send_lock", None)
    return lock if isinstance(lock, trio.StrictFIFOLock) else None
