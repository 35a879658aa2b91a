"""TLSInfo of a finished handshake.  Whether the client certificate verified is decided here."""

from typing import Final

from OpenSSL import SSL, crypto

from triosmtp.tls.cipher import algorithm_bits
from triosmtp.tls.engine import Engine
from triosmtp.tls.server_purpose import verifies_as_server
from triosmtp.tls.verify_callback import CERTIFICATE_REVOKED, verify_error_text
from triosmtp.variables import NO_CERTIFICATE, TLSInfo
from triosmtp.x509.certificate import certificate_facts, printable

__all__ = ["tls_info"]

_MAX_SNI: Final = 255
_OF_SERVERS: Final = frozenset({"server", "both"})

_bits: Final[dict[str, tuple[int, int]]] = {}
"""The bits of the algorithm and the bits that are used, by the name of the suite."""


def _keep_bits(cipher: str, connection: SSL.Connection) -> tuple[int, int]:
    used = connection.get_cipher_bits() or 0
    _bits[cipher] = algorithm_bits().get(cipher, used), used
    return _bits[cipher]


def tls_info(engine: Engine, *, certificate_requested: bool, seconds: float = 0.0) -> TLSInfo:
    """Return the facts of a finished handshake; ``seconds`` is what it took.

    ``verified`` needs all of these: There is a certificate.  This handshake ran the verification down to it, without an
    error at any depth.  No certificate of its chain stands in a revocation list.  If only the purpose is wrong, the
    chain is verified once more, as that of a server.
    """
    connection = engine.openssl_connection
    cipher = connection.get_cipher_name() or ""
    bits, used = _bits.get(cipher) or _keep_bits(cipher, connection)
    name = connection.get_servername()
    sni = None if name is None else printable(name.decode("utf-8", "backslashreplace"), _MAX_SNI)
    protocol = engine.version() or ""
    group = connection.get_group_name()
    alpn = connection.get_alpn_proto_negotiated().decode("ascii", "replace") or None
    peer = connection.get_peer_certificate() if certificate_requested else None
    if peer is None:
        return TLSInfo(
            protocol=protocol, cipher=cipher, cipher_algbits=bits, cipher_usebits=used, group=group, sni=sni, alpn=alpn,
            verify_error=NO_CERTIFICATE, handshake_seconds=seconds,
        )  # fmt: skip
    seen = engine.verification
    der = crypto.dump_certificate(crypto.FILETYPE_ASN1, peer)
    facts = certificate_facts(der)
    revoked = seen.is_revoked(connection, peer)
    server_purpose = not revoked and seen.only_purpose and facts.eku in _OF_SERVERS and verifies_as_server(connection)
    verified = not revoked and (seen.is_verified or (server_purpose and engine.accepts_servers))
    code = 0 if verified else CERTIFICATE_REVOKED if revoked else seen.code  # which says more than what came before it
    error = None
    if verified:
        facts = certificate_facts(der, every_name=True)
    else:
        error = verify_error_text(code) if code else "certificate was not verified in this handshake"
    return TLSInfo(
        protocol=protocol, cipher=cipher, cipher_algbits=bits, cipher_usebits=used, group=group, sni=sni, alpn=alpn,
        verified=verified,
        verify_error=error,
        verify_code=code,
        revoked=revoked,
        server_purpose=server_purpose,
        client_certificate=der,
        client_subject=facts.subject,
        client_issuer=facts.issuer,
        client_subject_cn=facts.subject_cn,
        client_issuer_cn=facts.issuer_cn,
        client_serial=facts.serial,
        client_fingerprint_sha256=facts.fingerprint_sha256,
        client_spki_sha256=facts.spki_sha256,
        client_sans=facts.sans,
        client_eku=facts.eku,
        client_not_before=facts.not_before,
        client_not_after=facts.not_after,
        handshake_seconds=seconds,
    )  # fmt: skip
