"""The client's side of TLS for ``triosmtp probe``: it accepts every certificate, and records what the server showed.

Not for sending mail: an attacker in between is reported, not refused.
"""

from collections.abc import Sequence
from typing import Final

import trio
from attrs import frozen
from OpenSSL import SSL, crypto

from triosmtp.tls.client import TLSClient
from triosmtp.tls.pem import PrivateKey
from triosmtp.tls.verify_callback import record_verification, verify_error_text
from triosmtp.x509.certificate import suppress_warnings
from triosmtp.x509.loaded_certificate import LoadedCertificate

__all__ = ["ObservedServer", "ObservingClient", "observing_context"]

_PARTIAL_WRITE: Final = 0x1  # SSL_MODE_ENABLE_PARTIAL_WRITE


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


class ObservingClient(TLSClient):
    """One TLS connection as its client.  ``context`` belongs to it alone."""

    def __init__(self, transport: trio.abc.Stream, context: SSL.Context, server_name: str | None) -> None:
        self._stapled: list[bool] = []
        # The list that the callback fills lives as long as the context.
        context.set_ocsp_client_callback(_note_response, self._stapled)
        super().__init__(transport, context, server_name)
        self._connection.request_ocsp()

    async def observe(self) -> ObservedServer:
        """Perform the handshake, and return what the server showed; the deadline is that of the caller's cancel scope.

        :raises HandshakeError: if it fails.
        """
        await self.handshake()
        return self._observed()

    def _observed(self) -> ObservedServer:
        connection, seen = self._connection, self.verification
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
