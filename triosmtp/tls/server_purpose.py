"""Whether OpenSSL verifies a client's chain as the chain of a server (TLS_Client_Purpose = client-or-server).

As a server OpenSSL verifies for the purpose of a TLS client.  It reports error 26 for a certificate whose
extended key usage is ``serverAuth`` alone.  Key usage, Netscape's types and the usages of intermediates count, too.
A right must follow from OpenSSL's own reading of them.  pyOpenSSL has no call that sets the purpose of a verification.
But as a client OpenSSL verifies for the purpose of a server.

So a client in memory receives the chain as that of its server: a ServerHello of TLS 1.2 and the Certificate message
(RFC 5246, sections 7.4.1.3 and 7.4.2).  OpenSSL verifies the chain when it reads them, before the server has
to prove that it has a key (which the handshake before has proven).  Then the client is thrown away.

Authorities, revocation lists, flags and security level are those of the server's context, because a connection takes
them from the context that it is moved to.  The depth is not, and need not be: the verification before has found only
error 26.
"""

from contextlib import suppress
from typing import Final

from OpenSSL import SSL, crypto

from triosmtp.tls.verify_callback import Verification, record_verification
from triosmtp.x509.certificate import certificate_facts

__all__ = ["verifies_as_server"]

_SUITE: Final = 0xC030  # one that every security level allows; the kind of key is looked at after the verification
_MAX_RECORD: Final = 16384  # RFC 5246, section 6.2.1


def _client_context() -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.set_verify(SSL.VERIFY_PEER, record_verification)
    context.set_cipher_list(b"ECDHE-RSA-AES256-GCM-SHA384")
    return context


_CLIENT: Final = _client_context()


def verifies_as_server(connection: SSL.Connection) -> bool:
    """Return whether the chain that the client of ``connection`` presented verifies for the purpose of a TLS server.

    Its cost is that of one more verification, and 0.1 ms.
    """
    leaf = connection.get_peer_certificate()
    if leaf is None:
        return False
    chain = (leaf, *(connection.get_peer_cert_chain() or ()))
    client = SSL.Connection(_CLIENT)
    client.set_context(connection.get_context())
    seen = Verification()
    client.set_app_data(seen)
    client.set_connect_state()
    with suppress(SSL.WantReadError):
        client.do_handshake()
    client.bio_write(_first_flight([crypto.dump_certificate(crypto.FILETYPE_ASN1, each) for each in chain]))
    with suppress(SSL.Error):
        client.do_handshake()
    return seen.is_verified and all(map(_may_issue, (client.get_verified_chain() or chain)[1:]))


def _may_issue(authority: crypto.X509) -> bool:
    """Return whether its extended key usage, if any, allows servers; to OpenSSL, SGC means server, too."""
    return certificate_facts(crypto.dump_certificate(crypto.FILETYPE_ASN1, authority)).eku != "none"


def _first_flight(chain: list[bytes]) -> bytes:
    """Return what a server of TLS 1.2 sends first, up to its certificates."""
    hello = (
        b"\x03\x03" + bytes(32)  # version, random
        + b"\x00"  # no session id
        + _SUITE.to_bytes(2, "big")
        + b"\x00"  # no compression
        + b"\x00\x05\xff\x01\x00\x01\x00"  # renegotiation_info, empty (RFC 5746, section 3.6)
    )  # fmt: skip
    certificates = _vector(b"".join(map(_vector, chain)))
    messages = b"\x02" + _vector(hello) + b"\x0b" + _vector(certificates)
    records = (messages[start : start + _MAX_RECORD] for start in range(0, len(messages), _MAX_RECORD))
    return b"".join(b"\x16\x03\x03" + len(record).to_bytes(2, "big") + record for record in records)


def _vector(content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + content
