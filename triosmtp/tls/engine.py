"""The TLS engine: pyOpenSSL with the interface of :class:`ssl.SSLObject`, for ``trio.SSLStream``.

The standard library's ``ssl`` has no verify callback: a client certificate that does not verify ends the handshake.
pyOpenSSL has one.  ``trio.SSLStream`` works through one object, which it gets from its context by ``wrap_bio``, with
the methods of :class:`ssl.SSLObject`.  :class:`Engine` is such an object.  It holds a pyOpenSSL connection that reads
and writes memory instead of a socket.

Data on the way in::

    transport → SSLStream → incoming (an ssl.MemoryBIO) → Engine: one record at a time → OpenSSL → read()

and out: ``write()`` → OpenSSL → Engine → ``outgoing`` → SSLStream → transport.  :class:`.stream.TLSStream` calls
:meth:`Engine.decrypt` and :meth:`Engine.encrypt` instead, which use no memory of SSLStream.

Rules for changes of this module:

- **One record at a time.**  Data behind the peer's close_notify is not TLS.  It must stay in ``incoming``, from which
  ``SSLStream.unwrap`` takes it: OpenSSL would lose it.  The same rule shows without a call of OpenSSL whether there is
  anything to decrypt.
- **Only** ``incoming.eof`` **reports the end of file.**  OpenSSL does not learn of it.  In a handshake it would ask for
  input without end, and otherwise leave an entry in its error queue.
- **The end of a handshake in TLS 1.3** leaves session tickets to be sent (which resume nothing: see :mod:`.context`).
  The first reply takes them along in one packet.  In TLS 1.2 the client waits for the server's last flight, which is
  sent at once.
- **Partial writes are off** (see :mod:`.context`), because SSLStream ignores the result of ``write``.
- **Errors** are the exceptions of ``ssl``, which SSLStream knows.  They are raised ``from None`` in the handler of
  OpenSSL's.  An exception in a local variable makes a cycle with its traceback.  The connection (45 KiB that the
  garbage collector does not see) would then live on.
- **SSLStream is a cycle** (it keeps a bound method of its own).  So :meth:`.TLSStream.release` frees the connection.
- **After an error OpenSSL sends only the alert** that it has made, and SSLStream not even that.
  :meth:`.TLSStream.send_alert` sends it, behind the data that was held back.
- **A client may renegotiate** in TLS 1.2, if the settings allow it.  OpenSSL does that within ``recv`` and ``send``,
  and ``send`` then needs input, which SSLStream waits for.  :meth:`.TLSStream.renegotiated` returns the outcome.
- **The error queue belongs to the thread**, not to the connection: see :mod:`.error_queue`.
"""

import ssl
from contextlib import suppress
from time import perf_counter
from typing import Final

from OpenSSL import SSL

from triosmtp.tls.handshake_scheduler import HANDSHAKE_SCHEDULER
from triosmtp.tls.large_flight import LARGE_FLIGHT, MAX_RENEGOTIATION, MAX_RENEGOTIATIONS
from triosmtp.tls.openssl_memory import (
    RELEASED,
    advance_handshake,
    encrypt_data,
    holds_input,
    read_plaintext,
    take_ciphertext,
    write_ciphertext,
)
from triosmtp.tls.verify_callback import Verification
from triosmtp.x509.error_queue import clear_errors, error_words

__all__ = ["FLUSH", "Engine"]

_HEADER: Final = 5  # of a TLS record: type, version, length (RFC 8446, section 5.1)
_RECORD_READ: Final = 16384 + 1  # one octet more than a record can hold: less than asked for means that it is used up
_RECORDS: Final = 64
"""Records that one read decrypts: the client chooses how small they are, and each costs as much as a large one."""
_HANDSHAKE: Final = 22  # the type of a record (RFC 5246, section 6.2.1); in TLS 1.3 it is encrypted

FLUSH: Final = bytes(bytearray(b"flush"))
"""Given to ``SSLStream.send_all``, this very object has it send what is in ``outgoing``, and nothing else."""


class Engine:
    """One server-side TLS connection, driven by :func:`.handshake.handshake`, then by a :class:`.stream.TLSStream`.

    The methods from ``wrap_bio`` to ``cipher`` are those of :class:`ssl.SSLObject`, with its exceptions.
    """

    __slots__ = (
        "__weakref__", "_connection", "_ended", "_failure", "_handshakes_before", "_incoming", "_is_broken", "_left",
        "_offset", "_outgoing", "_plaintext", "_protocol", "_received", "_record_type", "_released",
        "accepts_servers", "flight", "handshakes_reported", "needs_ciphertext", "turn_began", "verification",
    )  # fmt: skip

    server_side: Final = True
    server_hostname: Final = None

    def __init__(self, context: SSL.Context, *, accepts_servers: bool = False) -> None:
        self._connection = SSL.Connection(context)
        self._connection.set_accept_state()
        self.verification = Verification()
        self.accepts_servers = accepts_servers  # whether a chain may verify for the purpose of a server instead
        self._connection.set_app_data(self.verification)
        self.handshakes_reported = 0  # See stream.TLSStream.renegotiated.
        self._protocol: str | None = None  # Set when the handshake is done.
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()  # Replaced by wrap_bio.
        self._received: bytes = b""  # Ciphertext that OpenSSL does not have yet …
        self._offset = 0  # … from this offset on.
        self._left = 0  # Octets that are missing of a record that OpenSSL has in part.
        self._record_type = 0  # Of that record.
        self.turn_began: float | None = None
        """When a turn for a step of a renegotiation began, on :func:`time.perf_counter`."""
        self._plaintext: bytes = b""  # Decrypted, but not read yet.
        self._ended = False  # Whether the peer sent close_notify.
        self._released = False
        self._is_broken = False  # Whether nothing can be encrypted any more.
        self._failure: str | None = None  # An error that is raised after the plaintext before it.
        self._handshakes_before = 0  # How many handshakes were done when `flight` began.
        self.needs_ciphertext = False
        """Whether there is nothing to read and nothing to report: a read would begin by waiting for the transport.

        OpenSSL then holds no input, or a part of one record, and need not be asked.
        """
        self.flight = 0
        """Octets of the client's flight: all of the handshake since something was last sent to it."""

    # The handshake.

    def receive(self, data: bytes | bytearray) -> None:
        """Keep ciphertext of the handshake; :meth:`advance` passes it to OpenSSL."""
        self.flight += len(data)
        self._received += data

    def advance(self) -> bool:
        """Pass the input received so far to the handshake; return whether it is done.

        :raises OpenSSL.SSL.Error: if it failed (:func:`.handshake_failure.failure_of` classifies the reason).
        """
        self._feed_handshake()
        if not advance_handshake(self._connection):
            return False
        self.flight = 0
        self._protocol = self._connection.get_protocol_version_name()
        if holds_input(self._connection):  # data may have come right behind the handshake
            self._plaintext = self._decrypt(_RECORD_READ)
        else:
            self.needs_ciphertext = True
        return True

    def _feed_handshake(self) -> None:
        """Write all that was received to OpenSSL at once, and note the end of the last record.

        The first octets of a header stay here until the others have come: without them the record's end is not known.
        """
        data, end = self._received, self._left
        size = len(data)
        while size - end >= _HEADER:
            end += _HEADER + (data[end + 3] << 8 | data[end + 4])
        self._left = max(end - size, 0)
        self._received = data[end:]
        if end:
            write_ciphertext(self._connection, data[:end])

    def output(self) -> bytes:
        """Take what OpenSSL wants to be sent; in TLS 1.3, nothing once the handshake is done."""
        output = b"" if self._protocol == "TLSv1.3" else take_ciphertext(self._connection)
        if output:
            self.flight = 0
        return output

    @property
    def openssl_connection(self) -> SSL.Connection:
        """The connection, to ask it what was negotiated."""
        return self._connection

    # The end.

    def close_notify(self, last: bytes = b"") -> bytes:
        """Return the close_notify, behind all that was held back and ``last``; nothing after :meth:`release`."""
        if self._released:
            return b""
        with suppress(SSL.Error):
            if last:
                self._outgoing.write(encrypt_data(self._connection, last))
            self._connection.shutdown()
        return self._outgoing.read() + take_ciphertext(self._connection)

    @property
    def failure(self) -> str | None:
        """OpenSSL's reasons for which the session is broken: a record that it refused, or an alert of the peer."""
        return self._failure

    def pending_output(self) -> bytes:
        """Take all that is still to be sent of a session that is broken: what was held back, then the alert."""
        return b"" if self._released else self._outgoing.read() + take_ciphertext(self._connection)

    @property
    def released(self) -> bool:
        """Whether OpenSSL's state was freed."""
        return self._released

    def release(self) -> None:
        """Free OpenSSL's state now.  What needs it afterwards raises :class:`trio.ClosedResourceError`."""
        self._released = self._is_broken = True
        self.needs_ciphertext = False
        self._connection = RELEASED

    # The short way of TLSStream, beside SSLStream.

    def decrypt(self, data: bytes | bytearray, limit: int) -> bytes:
        """Decrypt what the transport received while :attr:`needs_ciphertext` was true; up to ``limit`` octets.

        It is ``b""`` if there is no whole record yet, or if SSLStream must do the rest: something is to be sent, or
        the session has ended.  Then ``needs_ciphertext`` is false, and SSLStream finds the plaintext here.
        """
        size = len(data)
        if size > _HEADER and data[3] << 8 | data[4] == size - _HEADER and not (self._left or self._received):
            write_ciphertext(self._connection, data)  # one record: nearly every command comes as one
            most = min(_RECORD_READ, limit)
            try:  # as _decrypt(), without its frame
                plaintext = read_plaintext(self._connection, most)
            except SSL.Error as error:
                self._not_decrypted(error, one=True)
            else:
                self.needs_ciphertext = len(plaintext) < most
                return plaintext
            if data[0] == _HANDSHAKE:
                self._is_too_much(size)
        elif size:
            self._received, self._offset = self._received[self._offset :] + data, 0
        else:
            self._incoming.write_eof()
            self.needs_ciphertext = False
            return b""
        plaintext = self._read(limit)
        if self._outgoing.pending:
            self._plaintext, self.needs_ciphertext = plaintext, False
            return b""
        return plaintext

    def take_decrypted(self, limit: int) -> bytes:
        """Take up to ``limit`` octets that came right behind the handshake; ``b""`` if SSLStream must do it."""
        plaintext = self._plaintext
        if not plaintext or self._outgoing.pending:
            return b""
        self._plaintext = plaintext[limit:]
        if len(plaintext) <= limit and self._failure is None and not (self._ended or holds_input(self._connection)):
            self.needs_ciphertext = True
        return plaintext[:limit]

    def encrypt(self, data: bytes | bytearray | memoryview) -> bytes:
        """Encrypt all of ``data``, which is not empty; ``b""`` if SSLStream must do it, or raise the reason why not."""
        if self._is_broken or self._outgoing.pending:
            return b""
        try:
            return encrypt_data(self._connection, data)
        except SSL.Error as error:
            if not isinstance(error, SSL.WantReadError):
                self._fail(error_words(error))
            return b""

    def put_back(self, ciphertext: bytes | bytearray | memoryview) -> None:
        """Leave to SSLStream what the transport did not take; sending :data:`FLUSH` sends it."""
        self._outgoing.write(ciphertext)

    @property
    def unsent(self) -> bool:
        """Whether SSLStream has still to send something."""
        return bool(self._outgoing.pending)

    # The methods that trio.SSLStream calls.

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: object = None,
    ) -> "Engine":
        """Return this engine, for the one stream that it belongs to: an engine is its own context."""
        del session
        if not server_side or server_hostname is not None:
            raise ValueError("this TLS engine is a server")
        if self._outgoing.pending:
            outgoing.write(self._outgoing.read())
        if self._incoming.eof:
            incoming.write_eof()
        self._incoming, self._outgoing = incoming, outgoing
        return self

    @property
    def context(self) -> "Engine":
        """The engine itself, as ``SSLStream.context``."""
        return self

    def do_handshake(self) -> None:
        """Perform the handshake; do nothing if :func:`.handshake.handshake` did it before.

        A large flight belongs into a thread (see :mod:`.large_flight`), and there is none here: it fails.
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
            self._outgoing.write(take_ciphertext(self._connection))
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, error_words(error)) from None
        self._outgoing.write(self.output())
        if not done:
            raise self._nothing_to_read()

    def read(self, limit: int = 16384) -> bytes:
        """Decrypt up to ``limit`` octets, of several records if they are there; ``b""`` after close_notify.

        Records without data (KeyUpdate) break the session if there are many in a row, and data behind them.
        """
        plaintext = self._plaintext
        if plaintext:
            self._plaintext = plaintext[limit:]
            plaintext = plaintext[:limit]
        else:
            plaintext = self._read(limit)
        self._end_turn()
        if plaintext or self._ended:
            return plaintext
        raise self._nothing_to_read()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Encrypt all of ``data``.  There is no back-pressure in here: send big things in pieces of 64 KB."""
        size = len(data)
        if data is not FLUSH:
            try:
                self._write(data)
            finally:
                self._end_turn()
        return size

    def unwrap(self) -> None:
        """Send close_notify, and wait for the peer's; what came behind that is left in ``incoming``."""
        self.needs_ciphertext = False
        self._end_turn()
        while not self._shut_down():
            if not self._feed():
                raise self._nothing_to_read()
        behind = self._received[self._offset :] + self._incoming.read()
        self._received, self._offset = b"", 0
        if behind:
            self._incoming.write(behind)

    def version(self) -> str | None:
        """Return the protocol version, from memory: SSLStream asks often."""
        return self._protocol

    def pending(self) -> int:
        """Return the number of octets that are decrypted and not yet read."""
        return len(self._plaintext) + self._connection.pending()

    def cipher(self) -> tuple[str, str, int] | None:
        """Return the cipher suite's name, the protocol that defines it, and its secret bits."""
        used = self._connection
        name, version, bits = used.get_cipher_name(), used.get_cipher_version(), used.get_cipher_bits()
        return None if name is None or version is None or bits is None else (name, version, bits)

    # Between memory and OpenSSL.

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        if self._failure is not None:
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, self._failure)
        while True:
            try:
                self._outgoing.write(encrypt_data(self._connection, data))
            except SSL.WantReadError:  # the client renegotiates: nothing is sent before that is done
                self._outgoing.write(take_ciphertext(self._connection))
                if not self._feed():
                    raise self._nothing_to_read() from None
                self.needs_ciphertext = False  # what else has come must be read before one waits for more
            except SSL.Error as error:
                self._fail(error_words(error))
                raise self._nothing_to_read() from None
            else:
                break

    def _shut_down(self) -> bool:
        """Send close_notify, if that was not done; return whether the peer's is here, too."""
        clear_errors()
        try:
            both = self._connection.shutdown()
        except SSL.WantReadError:
            both = False
        except SSL.Error as error:
            self._fail(error_words(error))
            raise self._nothing_to_read() from None
        self._outgoing.write(take_ciphertext(self._connection))
        return both

    def _read(self, limit: int) -> bytes:
        """Decrypt up to ``limit`` octets of what is here; ``b""`` if that is nothing."""
        pieces: list[bytes] = []
        records = _RECORDS
        while limit > 0 and not self._ended and self._failure is None:
            if not records:
                self.needs_ciphertext = False  # there may be more, for the next read
                if not pieces:
                    self._fail(f"more than {_RECORDS} records without data")
                break
            records -= 1
            if self.needs_ciphertext and not self._feed():
                break
            piece = self._decrypt(min(limit, _RECORD_READ))
            if piece:
                pieces.append(piece)
                limit -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _decrypt(self, limit: int) -> bytes:
        """Take plaintext out of OpenSSL; ``b""`` if there is none, and the state then says why."""
        one = self.needs_ciphertext  # OpenSSL holds what was written since, of one record, and nothing else
        try:
            piece = read_plaintext(self._connection, limit)
        except SSL.Error as error:
            self._not_decrypted(error, one=one)
            return b""
        self.needs_ciphertext = one and len(piece) < limit
        return piece

    def _not_decrypted(self, error: SSL.Error, *, one: bool) -> None:
        """Note why there is no plaintext; ``one`` is whether OpenSSL had a part of one record at most."""
        if isinstance(error, SSL.WantReadError):
            if one and self._left == 0:  # a record without plaintext may want an answer
                self._outgoing.write(take_ciphertext(self._connection))
            self.needs_ciphertext = True
        elif isinstance(error, SSL.ZeroReturnError):
            self._ended, self.needs_ciphertext = True, False
        else:
            self._fail(error_words(error))

    def _feed(self) -> bool:
        """Return OpenSSL ciphertext up to the end of one record, or what is there of it; False if there is nothing.

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
            self._record_type = data[start]
            if data[start] == _HANDSHAKE and self._protocol is not None and self._is_too_much(size):
                return False
            take = min(size, available)
            self._left = size - take
        if take == 0:
            return False
        end = start + take
        write_ciphertext(self._connection, data if take == len(data) else memoryview(data)[start:end])
        if end == len(data):
            self._received, self._offset = b"", 0
        else:
            self._offset = end
        return True

    def continues_handshake(self, data: bytes | bytearray) -> bool:
        """Return whether ``data``, which comes next, holds a part of a renegotiation (TLS 1.2 and before)."""
        if self._left and self._record_type == _HANDSHAKE:
            return True
        data, at = self._received[self._offset :] + data, self._left
        while at + _HEADER <= len(data) and data[at] != _HANDSHAKE:
            at += _HEADER + (data[at + 3] << 8 | data[at + 4])
        return at < len(data) and data[at] == _HANDSHAKE

    def _end_turn(self) -> None:
        if self.turn_began is not None:
            began, self.turn_began = self.turn_began, None
            HANDSHAKE_SCHEDULER.end_turn(perf_counter() - began)

    def _is_too_much(self, size: int) -> bool:
        """Count a record of a renegotiation, even if it is refused; return whether that is too much for a session."""
        if self.verification.handshakes != self._handshakes_before:
            self._handshakes_before, self.flight = self.verification.handshakes, 0
            if self._handshakes_before > MAX_RENEGOTIATIONS:
                self._fail(f"more than {MAX_RENEGOTIATIONS} renegotiations")
        self.flight += size
        if self._failure is None and self.flight > MAX_RENEGOTIATION:
            self._fail(f"more than {MAX_RENEGOTIATION} octets in a renegotiation")
        return self._failure is not None

    def _fail(self, reason: str) -> None:
        """Note that the session is broken; it is raised when all plaintext before that was read."""
        self._failure, self._is_broken, self.needs_ciphertext = reason, True, False

    def _nothing_to_read(self) -> ssl.SSLError:
        """Return the exception that says why there is nothing: not yet, or never more."""
        if self._failure is not None:
            return ssl.SSLError(ssl.SSL_ERROR_SSL, self._failure)
        if self._incoming.eof:
            return ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the peer closed the connection without close_notify")
        return ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "more ciphertext is needed")
