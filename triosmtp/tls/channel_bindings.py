"""Channel bindings: what ties an authentication to this very TLS connection (RFC 5056, RFC 5929, RFC 9266)."""

import hashlib
from typing import Any

from OpenSSL import SSL, crypto

from triosmtp.tls.stream import TLSStream
from triosmtp.x509.signature import signature_digest

__all__ = ["channel_binding"]

_WEAK = ("md5", "sha1")


def channel_binding(stream: TLSStream[Any], kind: str) -> bytes | None:
    """Return the data of the binding ``kind``: tls-exporter, tls-unique or tls-server-end-point; None: not safe.

    ``tls-unique`` exists up to TLS 1.2; TLS 1.3 has ``tls-exporter`` (RFC 9266, section 3).  It names one connection
    only because no session is resumed here.  After a renegotiation there is none.
    """
    facts = stream.engine.openssl_connection
    modern = facts.get_protocol_version_name() == "TLSv1.3"
    if kind == "tls-exporter":
        return facts.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"") if modern else None
    if kind == "tls-unique":
        return None if modern or facts.total_renegotiations() else facts.get_peer_finished()
    if kind == "tls-server-end-point":
        return _server_end_point(facts)
    return None


def _server_end_point(facts: SSL.Connection) -> bytes | None:
    """Return the hash of our certificate by the hash of its signature, SHA-256 at least (RFC 5929, section 4.1)."""
    certificate = facts.get_certificate()
    if certificate is None:
        return None
    digest = signature_digest(certificate)
    if digest is None:
        return None  # Ed25519 and others without a digest: the RFC does not define it
    der = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
    return hashlib.new("sha256" if digest in _WEAK else digest, der).digest()
