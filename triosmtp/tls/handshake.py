"""The server's side of a TLS handshake over any transport stream, and the reasons for which it may fail.

The pump is here, and not in ``trio.SSLStream``, because there it costs a tenth of a millisecond more, and because a
failed handshake must still send its alert.  What comes out is a plain SSLStream whose own handshake is done.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal, TypeVar, cast

import trio
from OpenSSL import SSL

from triosmtp.errors import HandshakeError
from triosmtp.tls.context import ServerContext
from triosmtp.tls.engine import Engine, engine_of
from triosmtp.tls.flight import LARGE_FLIGHT, MAX_FLIGHT, THREADS, Place, any_place
from triosmtp.tls.information import tls_info
from triosmtp.tls.turns import TURNS
from triosmtp.variables import TLSInfo

__all__ = ["REASONS", "HandshakeReason", "broken_by", "handshake", "renegotiated"]

HandshakeReason = Literal[
    "no_common_version", "no_common_cipher", "not_tls", "peer_closed", "peer_alert", "timed_out", "injection",
    "certificate_unparsable", "certificate_too_large", "bad_certificate_proof", "curve_not_offered",
    "no_application_protocol", "verification_queue_full", "protocol_error",
]  # fmt: skip
"""Why a handshake failed: fit for a metric's label."""

REASONS: Final[dict[HandshakeReason, str]] = {
    "no_common_version": "The client offers no protocol version that is allowed here.",
    "no_common_cipher": "The client shares no cipher suite, group or signature algorithm with us.",
    "not_tls": "What the client sent is not TLS: plaintext SMTP, HTTP or something else.",
    "peer_closed": "The client closed the connection before the handshake was done.",
    "peer_alert": "The client ended the handshake with an alert, whose name stands beside.",
    "timed_out": "The client did not finish the handshake in time.",
    "injection": "The client sent plaintext behind STARTTLS that may not be taken as if it came encrypted.",
    "certificate_unparsable": "The client's certificate cannot be parsed, or its key cannot be used.",
    "certificate_too_large": "What the client sent in one flight, its certificate and all, is larger than 64 KB.",
    "bad_certificate_proof": "The client did not prove that it holds the key of its certificate.",
    "curve_not_offered": "The client's certificate has a key on a curve that not both sides offer (TLS 1.2).",
    "no_application_protocol": "The client names the protocols that it speaks (ALPN), and SMTP is not among them.",
    "verification_queue_full": "The client's certificate and its chain are large, and too many of that kind wait.",
    "protocol_error": "The client broke the protocol, in the way that stands beside.",
}
"""One sentence for each reason."""

_ALERT_SECONDS: Final = 1.0  # the last bytes for a peer that failed: not worth waiting for
_HELLO_SECONDS: Final = 10.0
_HANDSHAKE_RECORD: Final = 0x16  # RFC 8446, section 5.1

_WORDS: Final[tuple[tuple[HandshakeReason, frozenset[str]], ...]] = (
    ("no_application_protocol", frozenset({"no application protocol"})),
    ("certificate_too_large", frozenset({"excessive message size"})),
    ("curve_not_offered", frozenset({"wrong curve"})),
    ("no_common_version", frozenset({
        "unsupported protocol", "version too low", "no protocols available", "inappropriate fallback",
        "bad protocol version number",
    })),
    ("bad_certificate_proof", frozenset({
        "bad signature", "wrong signature type", "wrong signature size", "missing verify message",
        "unsupported signature type",
    })),
    ("no_common_cipher", frozenset({
        "no shared cipher", "no suitable key share", "no shared groups", "no suitable groups",
        "no shared signature algorithms", "no suitable signature algorithm", "no ciphers specified",
    })),
    ("certificate_unparsable", frozenset({
        "cert length mismatch", "unknown certificate type", "signature for non signing certificate",
        "unable to find public key parameters", "no certificate returned", "x509 lib", "unable to get certs public key",
    })),
)  # fmt: skip
"""OpenSSL's words for what we tell apart; the first that fits decides."""

_PEER_ALERTS: Final = ("tls alert ", "tlsv1 alert ", "tlsv13 alert ", "sslv3 alert ", "ssl/tls alert ")
_PEER_ALERTS_OTHERWISE: Final = {
    f"tlsv1 {name}": name.replace(" ", "_")
    for name in (
        "unsupported extension", "certificate unobtainable", "unrecognized name", "bad certificate status response",
        "bad certificate hash value",
    )
}  # fmt: skip
"""OpenSSL leaves the word "alert" out of these."""

Transport = TypeVar("Transport", bound=trio.abc.Stream)


async def handshake(
    context: ServerContext, transport: Transport, *, received: bytes | bytearray = b"", place: Place = any_place
) -> tuple["trio.SSLStream[Transport]", TLSInfo]:
    """Do the handshake and give the encrypted stream, and what was established.

    ``received`` is what was read from the transport before and belongs to the handshake.  The deadline is that of the
    caller's cancel scope, and 10 s for the first octet.  ``place`` says when a large flight may have
    a thread (:mod:`.flight`).  After a failure or a cancellation, which waits for that thread, the transport is of no
    further use, but it is left to the caller to close it.  Close the stream with :func:`.engine.close`.

    :raises HandshakeError: with a reason out of :data:`REASONS`; the alert was then sent, within one second.
    """
    started = time.perf_counter()
    engine = context.new_engine()
    first: int | None = None
    while True:
        if not received:
            received = await _received(transport) if first is not None else await _first_received(transport)
        if first is None:
            first = received[0]
        engine.receive(received)
        received = b""
        info = await _advance(engine, partial(_advance_now, engine, context, first, started), place, transport)
        if isinstance(info, HandshakeError):
            await _send_alert(engine, transport)
            raise HandshakeError(info.reason, info.detail)
        output = engine.output()
        if output:
            await _send(transport, output)
        if info is not None:
            break
        if not output:
            _acknowledge(transport)
    engine.negotiations_told = engine.verification.negotiations
    stream = trio.SSLStream(transport, cast("Any", engine), server_side=True, https_compatible=True)
    # It believes that its handshake is still to be done, and one that is cancelled breaks it: then whoever is told to
    # end right behind the handshake could not even say so.  Nothing is waited for here.
    with trio.CancelScope(shield=True):
        await stream.do_handshake()
    return stream, info


async def _advance(
    engine: Engine,
    advance: Callable[[], TLSInfo | HandshakeError | None],
    place: Place,
    transport: trio.abc.Stream,
) -> TLSInfo | HandshakeError | None:
    """Go on with the handshake, in its turn, or in a thread if the flight is large."""
    size = engine.flight
    if size <= LARGE_FLIGHT:
        return await TURNS.run(advance, getattr(transport, "is_gone", _is_here))
    if size > MAX_FLIGHT:
        raise HandshakeError("certificate_too_large", f"more than {MAX_FLIGHT} octets in one flight")
    async with place(size):
        return await trio.to_thread.run_sync(advance, limiter=THREADS)


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
    seconds = time.perf_counter() - started
    return tls_info(engine, certificate_requested=context.requests_certificate, seconds=seconds)


def renegotiated(stream: "trio.SSLStream[Any]") -> TLSInfo | None:
    """Give what a renegotiation since the last call established, or None where there was none.  Cheap.

    For settings that allow clients to negotiate anew (TLS 1.2 and before): ask before each command, and replace all
    that was known of the client.  It may show another certificate this time, or none.
    """
    engine = engine_of(stream)
    if engine.verification.negotiations <= engine.negotiations_told:
        return None
    engine.negotiations_told = engine.verification.negotiations
    return tls_info(engine, certificate_requested=True)


def broken_by(stream: "trio.SSLStream[Any]") -> tuple[Literal["tls_alert", "tls_error"], str] | None:
    """Tell why TLS broke after the handshake; None if it did not, and a transport that did is not its fault.

    ``tls_alert``: the peer sent a fatal alert, whose name is given.  ``tls_error``: what the peer sent was refused, for
    reasons that OpenSSL gives.
    """
    failure = engine_of(stream).failure
    if failure is None:
        return None
    alert = next(filter(None, map(_alert_name, failure.split("; "))), None)
    return ("tls_error", failure) if alert is None else ("tls_alert", alert)


async def _first_received(transport: trio.abc.Stream) -> bytes | bytearray:
    """Receive the beginning of the ClientHello: who sends nothing holds a place, and is not waited for as long."""
    with trio.move_on_after(_HELLO_SECONDS):
        return await _received(transport)
    raise HandshakeError("timed_out", f"no ClientHello within {_HELLO_SECONDS:g} s")


async def _received(transport: trio.abc.Stream) -> bytes | bytearray:
    try:
        data = await transport.receive_some()
    except trio.BrokenResourceError:
        raise HandshakeError("peer_closed", "connection reset") from None
    if not data:
        raise HandshakeError("peer_closed", "end of file")
    return data


def _acknowledge(transport: trio.abc.Stream) -> None:
    """Have the kernel acknowledge what came of a flight.

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


def failure_of(error: SSL.Error, first: int) -> tuple[HandshakeReason, str]:
    """Tell why OpenSSL ended a handshake; ``first`` is the first octet that the client sent."""
    if isinstance(error, SSL.ZeroReturnError):
        return "peer_closed", "close_notify"
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    reasons = [reason for _, _, reason in entries if reason]
    detail = "; ".join(reasons) or "no reason given"
    if first != _HANDSHAKE_RECORD:
        return "not_tls", detail
    alert = next(filter(None, map(_alert_name, reasons)), None)
    if alert is not None:
        return "peer_alert", alert
    for reason, words in _WORDS:
        if not words.isdisjoint(reasons):
            return reason, detail
    if any(library == "asn1 encoding routines" for library, _, _ in entries):
        return "certificate_unparsable", detail
    return "protocol_error", detail


def _alert_name(reason: str) -> str | None:
    """Give the name of the peer's alert (RFC 8446, section 6) out of OpenSSL's words for it."""
    for prefix in _PEER_ALERTS:
        if reason.startswith(prefix):
            return reason[len(prefix) :].replace(" ", "_")
    return _PEER_ALERTS_OTHERWISE.get(reason)
