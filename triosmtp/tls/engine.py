"""pyOpenSSL in the shape that trio.SSLStream wants: the TLS engine.

Why not the standard library's ``ssl``: it has no verify callback, so a client certificate that does not verify ends
the handshake, and with it the session.  pyOpenSSL has one.  ``trio.SSLStream`` does all its work through one object,
which it asks its context for (``wrap_bio``), with the methods of :class:`ssl.SSLObject`; :class:`Engine` is such an
object, around a pyOpenSSL connection that reads and writes memory instead of a socket.

Bytes on the way in::

    transport → SSLStream → incoming (an ssl.MemoryBIO) → Engine: one record at a time → OpenSSL → read()

and out: ``write()`` → OpenSSL → Engine, drained once → ``outgoing`` → SSLStream → transport.

What must be known to change this file:

- **One record at a time.**  What lies behind the peer's close_notify is not TLS and must stay in ``incoming``, where
  ``SSLStream.unwrap`` takes it from; once OpenSSL has it, it is lost.  The same rule tells, without asking OpenSSL,
  when there is nothing to decrypt: the common first question of every read is answered from memory.
- **End of file is told by** ``incoming.eof`` **alone.**  OpenSSL never hears of it: it would ask again for ever in a
  handshake, and would leave an entry in its error queue elsewhere.
- **The end of a handshake in TLS 1.3** leaves session tickets to be sent (which resume nothing: see :mod:`.context`).
  They stay where they are until the first reply, which takes them along in one packet.  In TLS 1.2 the client waits
  for the server's last flight: it goes out at once.
- **Partial writes are off** (see :mod:`.context`), because SSLStream does not look at what ``write`` returns.
- **Errors**: SSLStream knows the exceptions of ``ssl``.  They are raised ``from None`` at the place where OpenSSL's
  was caught; an exception that is kept in a local variable makes a cycle with its own traceback, and connections
  (45 KiB each, which the garbage collector does not see) then live on.
- **SSLStream itself is a cycle** (it keeps a bound method of its own).  So :func:`close` and :func:`release` let go of
  the connection by hand: without them, OpenSSL's memory comes back whenever the collector happens to run.
- **After an error OpenSSL sends nothing more** but the alert that it has made.  SSLStream does not send that either: it
  is broken.  :func:`send_alert` does, behind what was held back.
- **A client may negotiate anew**, in TLS 1.2 and where the settings allow it.  OpenSSL does that within ``recv`` and
  ``send``, and ``send`` then wants to read; SSLStream knows how to wait for that.  Its outcome is told by
  :func:`.handshake.renegotiated`.
- **The error queue belongs to the thread**, not to the connection: see :mod:`.error_queue`.
"""

import ssl
from contextlib import suppress
from typing import Any, Final, cast

import trio
from OpenSSL import SSL

from triosmtp.tls.flight import LARGE_FLIGHT, MAX_RENEGOTIATION
from triosmtp.tls.verification import Verification

__all__ = ["Engine", "await_input", "close", "engine_of", "release", "send_alert", "send_close_notify"]

_HEADER: Final = 5  # of a TLS record: type, version, length (RFC 8446, section 5.1)
_RECORD_READ: Final = 16384 + 1  # one octet more than a record can hold: less than asked for means that it is used up
_RECORDS: Final = 64
"""Records that one read decrypts: the client chooses how small they are, and each costs as much as a large one."""
_HANDSHAKE: Final = 22  # the type of a record (RFC 5246, section 6.2.1); in TLS 1.3 it is encrypted
_SLACK: Final = 4096  # what a drain must have room for beyond the plaintext: tickets held back, record headers, tags
_FLIGHT: Final = 16384  # room for a handshake flight


class Engine:
    """One server-side TLS connection, driven by :func:`.handshake.handshake`, then by ``trio.SSLStream``.

    All methods below ``wrap_bio`` are those of :class:`ssl.SSLObject`, with its exceptions.
    """

    __slots__ = (
        "__weakref__", "_connection", "_empty", "_ended", "_failure", "_incoming", "_left", "_negotiation", "_offset",
        "_outgoing", "_protocol", "_received", "_released", "accepts_servers", "flight", "negotiations_told",
        "verification",
    )  # fmt: skip

    server_side: Final = True
    server_hostname: Final = None

    def __init__(self, context: SSL.Context, *, accepts_servers: bool = False) -> None:
        self._connection = SSL.Connection(context)
        self._connection.set_accept_state()
        self.verification = Verification()
        self.accepts_servers = accepts_servers  # whether a chain may verify for the purpose of a server instead
        self._connection.set_app_data(self.verification)
        self.negotiations_told = 0  # how many handshakes the server has heard of (see handshake.renegotiated)
        self._protocol: str | None = None  # set when the handshake is done
        self._incoming = self._outgoing = ssl.MemoryBIO()  # replaced by wrap_bio
        self._received: bytes = b""  # ciphertext that was taken from `incoming` …
        self._offset = 0  # … and how much of it OpenSSL has
        self._left = 0  # octets that are still to come of the record that OpenSSL has the beginning of
        self._empty = False  # whether OpenSSL is known to hold no input: then it need not be asked
        self._ended = False  # whether the peer sent close_notify
        self._released = False
        self._failure: str | None = None  # an error that waits behind plaintext
        self._negotiation = 0  # how many handshakes were done when `flight` began; only where there may be several
        self.flight = 0
        """Octets of the client's flight: all of the handshake since something was last sent to it."""

    # The handshake, as the pump drives it.

    def receive(self, data: bytes | bytearray) -> None:
        """Take ciphertext of the handshake from the transport; :meth:`advance` looks at it."""
        self.flight += len(data)
        self._received, self._offset = self._received[self._offset :] + bytes(data), 0

    def advance(self) -> bool:
        """Go on with the handshake as far as the input carries; True when it is done.

        :raises OpenSSL.SSL.Error: when it failed (:func:`.handshake.failure_of` tells why).
        """
        while self._feed():  # thousands of records, if the client makes them small
            pass
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return False
        self.flight = 0
        self._protocol = self._connection.get_protocol_version_name()
        return True

    def output(self) -> bytes:
        """Take what OpenSSL wants to be sent; in TLS 1.3, nothing once the handshake is done."""
        output = b"" if self._protocol == "TLSv1.3" else self._drained(_FLIGHT)
        if output:
            self.flight = 0
        return output

    def facts(self) -> SSL.Connection:
        """Give the connection, to be asked for what was negotiated, by :mod:`.information` alone."""
        return self._connection

    def farewell(self, last: bytes = b"") -> bytes:
        """Give the close_notify, behind all that was held back and ``last``; nothing after :meth:`release`."""
        if self._released:
            return b""
        with suppress(SSL.Error):
            if last:
                self._connection.send(last)
            self._connection.shutdown()
        return self._drained(len(last) + (len(last) >> 6) + _SLACK)

    @property
    def failure(self) -> str | None:
        """OpenSSL's reasons for which the session is broken: a record that it refused, or an alert of the peer."""
        return self._failure

    def last_output(self) -> bytes:
        """Take all that is still to be sent of a session that is broken: what was held back, then the alert."""
        return b"" if self._released else self._outgoing.read() + self._drained(_SLACK)

    @property
    def released(self) -> bool:
        """Whether OpenSSL's state was freed."""
        return self._released

    def release(self) -> None:
        """Free OpenSSL's state now.  Nothing but :meth:`farewell` and this may be called afterwards."""
        if not self._released:
            self._released = True
            del self._connection

    # What is done before SSLStream asks.

    @property
    def thirsty(self) -> bool:
        """Whether there is nothing here to read, nor to tell: a read would begin by waiting for the transport."""
        return (
            self._empty  # then what is left of a record, if anything, is not all of it
            and not (self._incoming.pending or self._ended)
            and self._failure is None
        )

    def supply(self, data: bytes | bytearray) -> None:
        """Take what the transport gave, as SSLStream does; ``b""`` is its end."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    # What trio.SSLStream uses.

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: object = None,
    ) -> "Engine":
        """Give this engine, for the one stream that it belongs to: an engine is its own context."""
        del session
        if not server_side or server_hostname is not None:
            raise ValueError("this TLS engine is a server")
        self._incoming, self._outgoing = incoming, outgoing
        return self

    @property
    def context(self) -> "Engine":
        """The engine itself, as ``SSLStream.context`` (see :func:`engine_of`)."""
        return self

    def do_handshake(self) -> None:
        """Do the handshake; nothing where the pump did it before.

        A large flight belongs into a thread (see :mod:`.flight`), and there is none here: it fails.
        """
        if self._protocol is not None:
            return
        received = self._incoming.read()
        if received:
            self.receive(received)
        if self.flight > LARGE_FLIGHT:
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, f"a flight above {LARGE_FLIGHT} octets")
        try:
            done = self.advance()
        except SSL.ZeroReturnError:
            raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the peer closed the TLS session in its handshake") from None
        except SSL.Error as error:
            self._outgoing.write(self._drained(_FLIGHT))
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, _text(error)) from None
        self._outgoing.write(self.output())
        if not done:
            raise self._nothing_to_read()

    def read(self, limit: int = 16384) -> bytes:
        """Decrypt up to ``limit`` octets, of several records where they are there; ``b""`` after close_notify.

        Records without data (KeyUpdate) break the session if there are many in a row, and data behind them.
        """
        pieces: list[bytes] = []
        records = _RECORDS
        while limit > 0 and not self._ended and self._failure is None:
            if not records:
                self._empty = False  # there may be more, for the next read
                if not pieces:
                    self._failure = f"more than {_RECORDS} records without data"
                break
            records -= 1
            if self._empty and not self._feed():
                break
            piece = self._decrypt(min(limit, _RECORD_READ))
            if piece:
                pieces.append(piece)
                limit -= len(piece)
        if pieces:
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self._ended:
            return b""
        raise self._nothing_to_read()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Encrypt all of ``data``.  There is no back-pressure in here: send big things in pieces of 64 KB."""
        if self._failure is not None:
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, self._failure)
        while True:
            try:
                self._connection.send(data)
            except SSL.WantReadError:  # the client negotiates anew: nothing goes out before that is done
                self._outgoing.write(self._drained(_FLIGHT))
                if not self._feed():
                    raise self._nothing_to_read() from None
            except SSL.Error as error:
                self._failure = _text(error)
                raise ssl.SSLError(ssl.SSL_ERROR_SSL, self._failure) from None
            else:
                break
        size = len(data)
        self._outgoing.write(self._drained(size + (size >> 6) + _SLACK))
        return size

    def unwrap(self) -> None:
        """Send close_notify, and wait for the peer's; what came behind that is left in ``incoming``."""
        while not self._shut_down():
            if not self._feed():
                raise self._nothing_to_read()
        behind = self._received[self._offset :] + self._incoming.read()
        self._received, self._offset = b"", 0
        if behind:
            self._incoming.write(behind)

    def version(self) -> str | None:
        """Give the protocol version, from memory: SSLStream asks often."""
        return self._protocol

    def pending(self) -> int:
        """Give the number of octets that are decrypted and not yet read."""
        return self._connection.pending()

    def cipher(self) -> tuple[str, str, int] | None:
        """Give the cipher suite's name, the protocol that defines it, and its secret bits."""
        name, version, bits = (
            self._connection.get_cipher_name(),
            self._connection.get_cipher_version(),
            self._connection.get_cipher_bits(),
        )
        return None if name is None or version is None or bits is None else (name, version, bits)

    # Between memory and OpenSSL.

    def _shut_down(self) -> bool:
        """Send close_notify, if that was not done; whether the peer's is here, too."""
        try:
            both = self._connection.shutdown()
        except SSL.WantReadError:
            both = False
        except SSL.Error as error:
            self._failure = _text(error)
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, self._failure) from None
        self._outgoing.write(self._drained(_SLACK))
        return both

    def _decrypt(self, limit: int) -> bytes:
        """Take plaintext out of OpenSSL; ``b""`` where there is none, and the state then says why."""
        one = self._empty  # OpenSSL holds one record or a part of it, and nothing else
        try:
            piece = self._connection.recv(limit)
        except SSL.WantReadError:
            if one and self._left == 0:  # a record without plaintext may want an answer
                self._outgoing.write(self._drained(_SLACK))
            self._empty = True
            return b""
        except SSL.ZeroReturnError:
            self._ended = True
            return b""
        except SSL.Error as error:
            self._failure = _text(error)  # told when all plaintext before it was read
            return b""
        self._empty = one and len(piece) < limit
        return piece

    def _feed(self) -> bool:
        """Give OpenSSL ciphertext up to the end of one record, or what is there of it; False where there is nothing.

        Fewer octets than a record's header wait here for the others: without them its end is not known.  OpenSSL does
        not look at an incomplete header either.
        """
        data, start = self._received, self._offset
        if start == len(data) or (self._left == 0 and len(data) - start < _HEADER):
            data, start = data[start:] + self._incoming.read(), 0
            self._received, self._offset = data, 0
        available = len(data) - start
        if self._left:
            take = min(self._left, available)
            self._left -= take
        elif available < _HEADER:
            return False
        else:
            size = _HEADER + (data[start + 3] << 8 | data[start + 4])
            if data[start] == _HANDSHAKE and self._protocol is not None and self._is_too_much(size):
                return False
            take = min(size, available)
            self._left = size - take
        if take == 0:
            return False
        self._connection.bio_write(data if take == len(data) else memoryview(data)[start : start + take])
        self._offset = start + take
        return True

    def _is_too_much(self, size: int) -> bool:
        """Count a record of a client that negotiates anew; True if its handshake is too large for the event loop."""
        if self.verification.negotiations != self._negotiation:
            self._negotiation, self.flight = self.verification.negotiations, 0
        self.flight += size
        if self.flight > MAX_RENEGOTIATION:
            self._failure = f"more than {MAX_RENEGOTIATION} octets in a renegotiation"
        return self._failure is not None

    def _drained(self, size: int) -> bytes:
        """Take all that OpenSSL has to send; ``size`` is a guess that makes a second look unnecessary."""
        pieces = []
        with suppress(SSL.WantReadError):
            while True:
                pieces.append(self._connection.bio_read(size))
                if len(pieces[-1]) < size:
                    break
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _nothing_to_read(self) -> ssl.SSLError:
        """Give the exception that says why there is nothing: not yet, or never more."""
        if self._failure is not None:
            return ssl.SSLError(ssl.SSL_ERROR_SSL, self._failure)
        if self._incoming.eof:
            return ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the peer closed the connection without close_notify")
        return ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "more ciphertext is needed")


def engine_of(stream: "trio.SSLStream[Any]") -> Engine:
    """Give the engine of a stream that :func:`.handshake.handshake` returned or a context's ``wrapping()`` made."""
    return cast("Engine", stream.context)


async def await_input(stream: "trio.SSLStream[Any]", max_bytes: int) -> None:
    """Wait for ciphertext where a read would, so that the read that follows finds it.

    SSLStream learns that there is nothing by an exception, and waits under a lock; that costs as much as decrypting a
    command.  No other task may be reading.  Errors are those of the transport's ``receive_some``.
    """
    engine = engine_of(stream)
    if engine.thirsty:
        engine.supply(await stream.transport_stream.receive_some(max_bytes))


async def close(stream: "trio.SSLStream[Any]", *, within: float = 1.0) -> None:
    """Close a TLS stream of ours in good order: close_notify, in at most ``within`` seconds, then the transport.

    The peer's close_notify is not waited for (RFC 8446, section 6.1, asks for no more), and OpenSSL's memory is given
    back at once.  A second call does nothing.
    """
    try:
        with (
            trio.move_on_after(within),
            suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError),
        ):
            await send_close_notify(stream)
    finally:
        release(stream)
        await stream.aclose()


async def send_close_notify(stream: "trio.SSLStream[Any]", last: bytes = b"") -> None:
    """Send our close_notify, behind all that was held back; for one who closes the transport by itself.

    ``last`` is plaintext that goes before it, in the same packet; it is lost where a client that may negotiate anew has
    just begun to.  Nothing may be under way on the stream, and no sending have failed.  Errors are those of the
    transport's ``send_all``.  Follow it with :func:`release`.
    """
    final = engine_of(stream).farewell(last)
    if final:
        await stream.transport_stream.send_all(final)


async def send_alert(stream: "trio.SSLStream[Any]", *, within: float = 1.0) -> None:
    """Send what a broken session still has to say, in at most ``within`` seconds: what was held back, then the alert.

    For one who closes the transport by itself.  Nothing may be under way on the stream.
    """
    last = engine_of(stream).last_output()
    if last:
        with trio.move_on_after(within), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await stream.transport_stream.send_all(last)


def release(stream: "trio.SSLStream[Any]") -> None:
    """Give back OpenSSL's memory of a stream that is of no further use: for a ``finally``, after any end."""
    engine_of(stream).release()


def _text(error: SSL.Error) -> str:
    """Give OpenSSL's reasons as one line."""
    reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return "; ".join(reason for _, _, reason in reasons) or "TLS failed"
