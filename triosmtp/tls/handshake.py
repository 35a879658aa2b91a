"""The server's side of a TLS handshake over any transport stream.

It is done here, and not in ``trio.SSLStream``, because there it costs a tenth of a millisecond more, and because a
failed handshake must still send its alert.
"""

from collections.abc import Callable
from functools import partial
from math import inf
from time import perf_counter
from typing import Final, TypeVar

import trio
from OpenSSL import SSL

from triosmtp.errors import HandshakeError
from triosmtp.tls.context import ServerContext
from triosmtp.tls.engine import Engine
from triosmtp.tls.handshake_failure import failure_of
from triosmtp.tls.handshake_scheduler import HANDSHAKE_SCHEDULER
from triosmtp.tls.large_flight import LARGE_FLIGHT, MAX_FLIGHT, AcquireThread, acquire_at_once, flight_limiter
from triosmtp.tls.stream import TLSStream, open_stream
from triosmtp.tls.tls_info import tls_info
from triosmtp.variables import TLSInfo

__all__ = ["HandshakeTimer", "handshake", "timed_handshake"]

_ALERT_SECONDS: Final = 1.0  # the last bytes for a peer that failed: not worth waiting for
_HELLO_SECONDS: Final = 10.0

Transport = TypeVar("Transport", bound=trio.abc.Stream)


class HandshakeTimer:
    """The time of one handshake: it may take ``seconds``, and the client's first octet at most 10.

    ``began`` is on Trio's clock.
    """

    __slots__ = ("_received", "_seconds", "began")

    def __init__(self, seconds: float, began: float) -> None:
        self._seconds = seconds
        self._received = False
        self.began = began

    def receive(self) -> None:
        """Note that the client's first octets have come."""
        self._received = True

    @property
    def deadline(self) -> float:
        """When the handshake is too late, on Trio's clock."""
        return self.began + (self._seconds if self._received else min(self._seconds, _HELLO_SECONDS))

    def failure(self) -> HandshakeError:
        """Return the error of a handshake that is too late."""
        if self._received or self._seconds <= _HELLO_SECONDS:
            return HandshakeError("timed_out", f"after {self._seconds:g} s")
        return HandshakeError("timed_out", f"no ClientHello within {_HELLO_SECONDS:g} s")


async def handshake(
    context: ServerContext,
    transport: Transport,
    *,
    seconds: float = inf,
    acquire_thread: AcquireThread = acquire_at_once,
) -> tuple[TLSStream[Transport], TLSInfo]:
    """Perform the handshake; return the encrypted stream, and what was established.

    It may take ``seconds``, and the client's first octet at most 10.  A large flight waits for a thread by
    ``acquire_thread`` (:mod:`.large_flight`).  After a failure or a cancellation, which waits for that thread, the
    transport is of no further use; the caller closes it.  Call :meth:`.TLSStream.release` at the end.

    :raises HandshakeError: with a reason out of :data:`.REASONS`; the alert was then sent, within one second.
    """
    timer = HandshakeTimer(seconds, trio.current_time())
    with trio.CancelScope(deadline=timer.deadline) as scope:

        def begin() -> None:
            timer.receive()
            scope.deadline = timer.deadline

        return await timed_handshake(context, transport, begin, acquire_thread=acquire_thread)
    raise timer.failure()


async def timed_handshake(
    context: ServerContext,
    transport: Transport,
    on_hello: Callable[[], None],
    *,
    acquire_thread: AcquireThread = acquire_at_once,
) -> tuple[TLSStream[Transport], TLSInfo]:
    """Perform the handshake as :func:`handshake` does, for a caller that ends it by cancellation if it is too late.

    ``on_hello`` is called when the client's first octets have come.  A cancel scope for each handshake would cost as
    much as a command.

    :raises HandshakeError: as :func:`handshake` does, except for ``timed_out``.
    """
    started = perf_counter()
    engine = context.new_engine()
    received = await _receive(transport)
    on_hello()
    advance = partial(_advance_now, engine, context, received[0], started)
    result = await _negotiate(engine, advance, acquire_thread, transport, received)
    if isinstance(result, HandshakeError):
        await _send_alert(engine, transport)
        raise HandshakeError(result.reason, result.detail)
    engine.handshakes_reported = engine.verification.handshakes
    may_renegotiate = context.material.settings.allow_renegotiation
    return await open_stream(transport, engine, may_renegotiate=may_renegotiate), result


async def _negotiate(
    engine: Engine,
    advance: Callable[[], TLSInfo | HandshakeError | None],
    acquire_thread: AcquireThread,
    transport: trio.abc.Stream,
    received: bytes | bytearray,
) -> TLSInfo | HandshakeError:
    while True:
        engine.receive(received)
        result = await _advance(engine, advance, acquire_thread, transport)
        if isinstance(result, HandshakeError):
            return result
        output = engine.output()
        if output:
            await _send(transport, output)
        if result is not None:
            return result
        if not output:
            _acknowledge(transport)
        received = await _receive(transport)


async def _advance(
    engine: Engine,
    advance: Callable[[], TLSInfo | HandshakeError | None],
    acquire_thread: AcquireThread,
    transport: trio.abc.Stream,
) -> TLSInfo | HandshakeError | None:
    """Run the next step of the handshake, in its turn, or in a thread if the flight is large."""
    size = engine.flight
    if size <= LARGE_FLIGHT:
        return await HANDSHAKE_SCHEDULER.run(advance, getattr(transport, "is_gone", _is_here))
    if size > MAX_FLIGHT:
        raise HandshakeError("certificate_too_large", f"more than {MAX_FLIGHT} octets in one flight")
    async with acquire_thread(size):
        return await trio.to_thread.run_sync(advance, limiter=flight_limiter())


def _is_here() -> bool:
    return False


def _advance_now(engine: Engine, context: ServerContext, first: int, started: float) -> TLSInfo | HandshakeError | None:
    """Return what was established, None if more is needed, or why it failed.

    The failure is returned, and not raised: Trio's frames keep what a thread raises in a cycle with its traceback, and
    the connection with it.
    """
    try:
        done = engine.advance()
    except SSL.Error as error:
        return HandshakeError(*failure_of(error, first))
    if not done:
        return None
    seconds = perf_counter() - started
    return tls_info(engine, certificate_requested=context.requests_certificate, seconds=seconds)


async def _receive(transport: trio.abc.Stream) -> bytes | bytearray:
    try:
        data = await transport.receive_some()
    except trio.BrokenResourceError:
        raise HandshakeError("peer_closed", "connection reset") from None
    if not data:
        raise HandshakeError("peer_closed", "end of file")
    return data


def _acknowledge(transport: trio.abc.Stream) -> None:
    """Make the kernel acknowledge the received part of a flight.

    With Nagle's algorithm a client keeps the last part of a flight back until then, and the kernel waits for 40 ms.
    """
    acknowledge = getattr(transport, "acknowledge", None)
    if acknowledge is not None:
        acknowledge()


async def _send(transport: trio.abc.Stream, data: bytes) -> None:
    try:
        await transport.send_all(data)
    except trio.BrokenResourceError:
        raise HandshakeError("peer_closed", "connection reset") from None


async def _send_alert(engine: Engine, transport: trio.abc.Stream) -> None:
    alert = engine.output()
    if alert:
        with trio.move_on_after(_ALERT_SECONDS):
            try:
                await transport.send_all(alert)
            except trio.BrokenResourceError:
                return
