"""The client's side of TLS: one connection over any transport of Trio.

The handshake succeeds regardless of the server's certificate.  The result of its verification is in
:attr:`TLSClient.verification`; the caller decides, before it sends anything (see :mod:`.server_identity`).
"""

from typing import Final

import trio
from OpenSSL import SSL, crypto

from triosmtp.errors import HandshakeError
from triosmtp.tls.handshake_failure import failure_of
from triosmtp.tls.large_flight import LARGE_FLIGHT
from triosmtp.tls.openssl_memory import RELEASED, holds_input
from triosmtp.tls.verify_callback import Verification
from triosmtp.x509.error_queue import error_words

__all__ = ["TLSClient"]

_READ: Final = 16384
_MAX_HANDSHAKE: Final = 128 * 1024  # octets: certificates of 100 KB are the most that OpenSSL takes


class TLSClient:
    """One TLS connection as its client.

    ``context`` has :func:`.verify_callback.record_verification` as its callback.  ``server_name`` is sent as SNI.
    """

    def __init__(self, transport: trio.abc.Stream, context: SSL.Context, server_name: str | None) -> None:
        self.transport = transport
        self.verification = Verification()
        """The result of OpenSSL for the server's chain.  Names are not compared."""
        self._connection = SSL.Connection(context)
        self._connection.set_app_data(self.verification)
        self._connection.set_connect_state()
        if server_name is not None:
            self._connection.set_tlsext_host_name(server_name.encode("ascii"))

    async def handshake(self) -> None:
        """Perform the handshake; the deadline is that of the caller's cancel scope.

        :raises HandshakeError: if it fails.
        """
        received, first = 0, 0
        while True:
            try:
                if received <= LARGE_FLIGHT:
                    self._connection.do_handshake()
                else:  # a hostile chain takes seconds: the deadline holds all the same
                    await trio.to_thread.run_sync(self._connection.do_handshake, abandon_on_cancel=True)
                break
            except SSL.WantReadError:
                await self._flush()
            except SSL.Error as error:
                reason, detail = failure_of(error, first)
                raise HandshakeError(reason, detail) from None
            data = await self._receive()
            if not data:
                raise HandshakeError("peer_closed", "end of file")
            first = first or data[0]
            received += len(data)
            if received > _MAX_HANDSHAKE:
                raise HandshakeError("protocol_error", f"more than {_MAX_HANDSHAKE} octets in a handshake")
            self._connection.bio_write(data)
        await self._flush()

    @property
    def certificate(self) -> bytes | None:
        """The server's certificate in DER; None if it showed none."""
        leaf = self._connection.get_peer_certificate()
        return None if leaf is None else crypto.dump_certificate(crypto.FILETYPE_ASN1, leaf)

    @property
    def protocol(self) -> str:
        """The version of TLS, as ``TLSv1.3``."""
        return self._connection.get_protocol_version_name()

    async def send_all(self, data: bytes) -> None:
        """Encrypt and send.

        :raises trio.BrokenResourceError: if the connection is gone.
        """
        try:
            self._connection.send(data)
        except SSL.Error as error:
            raise trio.BrokenResourceError(error_words(error)) from None
        await self._flush()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive and decrypt; ``b""`` at the end.

        :raises trio.BrokenResourceError: if the server ended the session with an alert, or broke it.
        """
        while True:
            try:
                return self._connection.recv(max_bytes or _READ)
            except SSL.WantReadError:
                await self._flush()  # the answer to a KeyUpdate
                data = await self._receive()
                if not data:
                    return b""
                self._connection.bio_write(data)
            except SSL.ZeroReturnError:
                return b""
            except SSL.Error as error:
                raise trio.BrokenResourceError(error_words(error)) from None

    @property
    def has_more(self) -> bool:
        """Whether the server has sent more that was received and not returned yet."""
        return self._connection.pending() > 0 or holds_input(self._connection)

    def release(self) -> None:
        """Free OpenSSL's memory now.  The transport is left open, and nothing is sent."""
        self._connection = RELEASED

    async def _receive(self) -> bytes:
        try:
            return bytes(await self.transport.receive_some(_READ))
        except trio.BrokenResourceError:
            return b""

    async def _flush(self) -> None:
        while True:
            try:
                data = self._connection.bio_read(_READ)
            except SSL.WantReadError:
                return
            await self.transport.send_all(data)
