"""The client's side of TLS for ``triosmtp probe``: it accepts every certificate, and records what the server showed.

Not for sending mail: an attacker in between is reported, not refused.
"""

from collections.abc import Sequence
from typing import Final

import trio
from attrs import frozen
from OpenSSL import SSL, crypto

from triosmtp.errors import HandshakeError
from triosmtp.tls.handshake_failure import failure_of
from triosmtp.tls.large_flight import LARGE_FLIGHT
from triosmtp.tls.pem import PrivateKey
from triosmtp.tls.verify_callback import Verification, record_verification, verify_error_text
from triosmtp.x509.certificate import suppress_warnings
from triosmtp.x509.error_queue import error_words
from triosmtp.x509.loaded_certificate import LoadedCertificate

__all__ = ["ObservedServer", "TLSClient", "observing_context"]

_PARTIAL_WRITE: Final = 0x1  # SSL_MODE_ENABLE_PARTIAL_WRITE
_READ: Final = 16384
_LONGEST_HANDSHAKE: Final = 128 * 1024  # octets: certificates of 100 KB are the most that OpenSSL takes


@frozen(slots=True, kw_only=True)
class ObservedServer:
    """The properties that a server showed in a handshake."""

    protocol: str
    cipher: str
    cipher_bits: int
    group: str | None
    chain: tuple[bytes, ...]
    """Its certificates in DER, as it sent them: the leaf first."""
    verify_error: str | None
    """Why the chain does not lead to an authority of this system; None if it does.  Names are not compared."""
    client_authorities: int
    """How many authorities it names for client certificates; 0 if it asks for none, or names none."""
    stapled: bool
    """Whether it sent an OCSP response."""


def observing_context(
    certificates: Sequence[LoadedCertificate] = (),
    key: PrivateKey | None = None,
    authorities: Sequence[LoadedCertificate] | None = None,
) -> SSL.Context:
    """Make a context that takes every version, cipher and certificate, and presents ``certificates`` if asked.

    ``authorities`` are the only ones that are known.  Without them it reads the system's, and that blocks.

    :raises ValueError: if the key is not that of the first certificate, or OpenSSL refuses either.
    """
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_VERSION)
    context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
    context.clear_mode(_PARTIAL_WRITE)
    if authorities is None:
        context.set_default_verify_paths()
    store = context.get_cert_store()
    assert store is not None, "a context of OpenSSL's has a store"
    for authority in authorities or ():
        store.add_cert(authority.openssl)
    context.set_verify(SSL.VERIFY_PEER, record_verification)
    try:
        if certificates and key is not None:
            with suppress_warnings():
                context.use_certificate(certificates[0].openssl)
                for certificate in certificates[1:]:
                    context.add_extra_chain_cert(certificate.openssl)
                context.use_privatekey(key)
            context.check_privatekey()
    except (SSL.Error, TypeError) as error:
        raise ValueError(
            "the key is not that of the first certificate, or is of a kind that TLS does not use"
        ) from error
    return context


class TLSClient:
    """One TLS connection as its client, over any transport."""

    def __init__(self, transport: trio.abc.Stream, context: SSL.Context, server_name: str | None) -> None:
        self._transport = transport
        self._stapled: list[bool] = []
        # The context belongs to this connection alone, so that what the callback keeps goes with it.
        context.set_ocsp_client_callback(_note_response, self._stapled)
        self._connection = SSL.Connection(context)
        self._verification = Verification()
        self._connection.set_app_data(self._verification)
        self._connection.set_connect_state()
        self._connection.request_ocsp()
        if server_name is not None:
            self._connection.set_tlsext_host_name(server_name.encode("ascii"))

    async def handshake(self) -> ObservedServer:
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
            if received > _LONGEST_HANDSHAKE:
                raise HandshakeError("protocol_error", f"more than {_LONGEST_HANDSHAKE} octets in a handshake")
            self._connection.bio_write(data)
        await self._flush()
        return self._observed()

    async def send_all(self, data: bytes) -> None:
        """Encrypt and send.

        :raises trio.BrokenResourceError: if the connection is gone.
        """
        try:
            self._connection.send(data)
        except SSL.Error as error:
            raise trio.BrokenResourceError(error_words(error)) from None
        await self._flush()

    async def receive_some(self) -> bytes:
        """Receive and decrypt; ``b""`` at the end.

        :raises trio.BrokenResourceError: if the server ended the session with an alert, or broke it.
        """
        while True:
            try:
                return self._connection.recv(_READ)
            except SSL.WantReadError:
                data = await self._receive()
                if not data:
                    return b""
                self._connection.bio_write(data)
            except SSL.ZeroReturnError:
                return b""
            except SSL.Error as error:
                raise trio.BrokenResourceError(error_words(error)) from None

    async def _receive(self) -> bytes:
        try:
            return bytes(await self._transport.receive_some(_READ))
        except trio.BrokenResourceError:
            return b""

    async def _flush(self) -> None:
        while True:
            try:
                data = self._connection.bio_read(_READ)
            except SSL.WantReadError:
                return
            await self._transport.send_all(data)

    def _observed(self) -> ObservedServer:
        connection, seen = self._connection, self._verification
        leaf = connection.get_peer_certificate()
        rest = connection.get_peer_cert_chain() or []
        chain = [crypto.dump_certificate(crypto.FILETYPE_ASN1, each) for each in rest]
        if leaf is not None and not chain:
            chain = [crypto.dump_certificate(crypto.FILETYPE_ASN1, leaf)]
        error = None
        if not seen.is_verified:
            error = verify_error_text(seen.code) if seen.code else "no certificate presented"
        return ObservedServer(
            protocol=connection.get_protocol_version_name(),
            cipher=connection.get_cipher_name() or "",
            cipher_bits=connection.get_cipher_bits() or 0,
            group=connection.get_group_name(),
            chain=tuple(chain),
            verify_error=error,
            client_authorities=len(connection.get_client_ca_list()),
            stapled=any(self._stapled),
        )


def _note_response(_connection: SSL.Connection, response: bytes, seen: list[bool] | None) -> bool:
    if seen is not None:
        seen.append(bool(response))
    return True
