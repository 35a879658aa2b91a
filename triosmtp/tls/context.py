"""OpenSSL server contexts out of material that was read and checked before.

Every line of :func:`build_context` stands against something that was seen to go wrong:

- **No resumption**, neither by ticket nor by id, which takes both switches.  A resumed session brings a client
  certificate that nobody verified in this handshake, and OpenSSL tells of no error.
- **A session id context is set all the same**: without it, a client that tries to resume is killed.
- **VERIFY_PEER alone.**  With VERIFY_FAIL_IF_NO_PEER_CERT the session of a client without a certificate would die;
  ``require`` is the server's own rule, after the handshake.
- **No partial writes** (SSLStream would lose the rest), and buffers are given back while a connection is idle.
- **No automatic chain**: OpenSSL would complete the server's chain out of the client CAs.
- **No flag of the X.509 store** is touched: those for policies crash the process.
- A context **freezes at its first connection**, so a change of settings or files builds a new one (0.3 ms).
"""

import ssl
from typing import Final, cast

from attrs import field, frozen
from OpenSSL import SSL, crypto

from triosmtp.tls.engine import Engine
from triosmtp.tls.material import Material, MaterialError
from triosmtp.tls.verification import record_verification

__all__ = ["ServerContext", "build_context", "openssl_version"]

_PARTIAL_WRITE: Final = 0x1  # SSL_MODE_ENABLE_PARTIAL_WRITE
_NO_AUTO_CHAIN: Final = 0x8  # SSL_MODE_NO_AUTO_CHAIN


def openssl_version() -> str:
    """Give the version of the OpenSSL that does the work (not the one of the standard library's ``ssl``)."""
    return SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode("ascii", "replace")


@frozen(slots=True, eq=False)
class ServerContext:
    """What new connections start from: an OpenSSL context, and the material that it was built of."""

    context: SSL.Context = field(repr=False)
    material: Material

    @property
    def requests_certificate(self) -> bool:
        """Whether clients are asked for a certificate."""
        return bool(self.material.authorities)

    def ciphers(self) -> tuple[str, ...]:
        """Give the cipher suites in force, in order of preference, TLS 1.3's first."""
        return tuple(SSL.Connection(self.context).get_cipher_list())

    def wrapping(self) -> ssl.SSLContext:
        """Give what ``trio.SSLStream(stream, …, server_side=True)`` takes for its context, to do the handshake itself.

        It is not an SSLContext, but has the one method of it that SSLStream uses.
        """
        return cast("ssl.SSLContext", self)

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: object = None,
    ) -> Engine:
        """Give the engine of a new connection, as :meth:`ssl.SSLContext.wrap_bio` does."""
        return Engine(self.context).wrap_bio(incoming, outgoing, server_side, server_hostname, session)


def build_context(material: Material) -> ServerContext:
    """Build a context.  Blocking: 0.3 ms, and longer with hundreds of client CAs.

    :raises MaterialError: where OpenSSL refuses what looked right (a key too weak for the security level, for example).
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(
        SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE
    )
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"triosmtp")
    context.clear_mode(_PARTIAL_WRITE)
    context.set_mode(_NO_AUTO_CHAIN | SSL.MODE_RELEASE_BUFFERS)
    _use_ciphers(context, material)
    _use_identity(context, material)
    if material.authorities:
        _use_authorities(context, material)
    return ServerContext(context, material)


def _use_ciphers(context: SSL.Context, material: Material) -> None:
    try:
        context.set_cipher_list(material.cipher_list.encode("ascii"))
        if material.cipher_suites:
            context.set_tls13_ciphersuites(material.cipher_suites.encode("ascii"))
    except (SSL.Error, UnicodeError) as error:
        reason = f'"{material.settings.ciphers}" selects nothing ({_reason(error)})'
        raise MaterialError("TLS_Ciphers", None, reason) from None


def _use_identity(context: SSL.Context, material: Material) -> None:
    settings = material.settings
    try:
        context.use_certificate(material.chain[0])
        for certificate in material.chain[1:]:
            context.add_extra_chain_cert(certificate)
    except (SSL.Error, crypto.Error) as error:
        reason = f"is refused by OpenSSL: {_reason(error)}"
        raise MaterialError("TLS_Certificate", settings.certificate, reason) from None
    try:
        context.use_privatekey(material.key)
        context.check_privatekey()
    except (SSL.Error, crypto.Error) as error:
        option, path = settings.key_place
        raise MaterialError(option, path, f"is refused by OpenSSL: {_reason(error)}") from None


def _use_authorities(context: SSL.Context, material: Material) -> None:
    context.set_verify(SSL.VERIFY_PEER, record_verification)
    store = context.get_cert_store()
    names = set()
    try:
        for authority in material.authorities:
            if store is not None:
                store.add_cert(crypto.X509.from_cryptography(authority))
            name = authority.subject.public_bytes()
            if name not in names:
                names.add(name)
                context.add_client_ca(authority)
    except (SSL.Error, crypto.Error) as error:
        reason = f"is refused by OpenSSL: {_reason(error)}"
        raise MaterialError("TLS_Client_CA", material.settings.client_ca, reason) from None


def _reason(error: Exception) -> str:
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return "; ".join(reason for _, _, reason in entries if reason) or str(error) or type(error).__name__
