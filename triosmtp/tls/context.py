"""OpenSSL server contexts out of material that was read and checked before.

Every line of :func:`build_context` stands against something that was seen to go wrong:

- **No resumption**, neither by ticket nor by id, which takes both switches.  A resumed session has a client certificate
  that was not verified in this handshake, and OpenSSL reports no error.
- **A session id context is set all the same**: without it, a client that tries to resume is killed.
- **VERIFY_PEER alone.**  VERIFY_FAIL_IF_NO_PEER_CERT would end the session of a client without a certificate.
  ``require`` is the server's own rule, after the handshake.
- **No partial writes** (SSLStream would lose the rest), and buffers are given back while a connection is idle.
- **No automatic chain**: OpenSSL would complete the server's chain out of the client CAs.
- **No flag of the X.509 store but CRL_CHECK and PARTIAL_CHAIN** is touched: those for policies crash the process.
  CRL_CHECK looks up the leaf alone.  If a list is missing or too old, nobody verifies.
  :mod:`.revocation` looks up the whole chain afterwards.  The leaf too: an earlier error hides that it was revoked.
  PARTIAL_CHAIN makes every certificate of TLS_Client_CA an anchor (RFC 5280, section 6.1.1 d), and a chain ends at the
  first one.  So it is set only if not every chain can reach a root of the bundle.
- **Each certificate brings its own chain** through a file in memory: added one by one, the intermediates of an RSA and
  an ECDSA certificate would be sent together.
- **A context freezes at its first connection**, so a change of settings or files builds a new one (0.3 ms).

The server name of a client selects another context.  OpenSSL takes from that one the certificates, the Diffie-Hellman
parameters, the authorities and the callbacks for ALPN and OCSP.  It keeps from the first the options, versions, suites,
verify mode, depth and callback.  So the contexts of one material differ only in the certificates, and no server name
changes which clients are asked for one.
"""

import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeVar, cast
from weakref import WeakSet

from attrs import evolve, field, frozen
from OpenSSL import SSL, crypto

from triosmtp.domain import DomainError, name_key
from triosmtp.tls.cipher import VERSIONS, effective_suites, set_ciphers
from triosmtp.tls.engine import Engine
from triosmtp.tls.key_exchange_groups import allow_client_key_curves, set_groups
from triosmtp.tls.material import Material
from triosmtp.tls.ocsp import OCSPStaple
from triosmtp.tls.pem import file_in_memory
from triosmtp.tls.revocation import Revocations
from triosmtp.tls.server_certificate import ServerCertificate
from triosmtp.tls.settings import PROTOCOLS, MaterialError, MaterialWarning, Option, TLSSettings
from triosmtp.tls.trial_handshake import find_unusable
from triosmtp.tls.verify_callback import record_verification, track_renegotiation
from triosmtp.x509.certificate import suppress_warnings
from triosmtp.x509.error_queue import error_words

__all__ = ["ServerContext", "build_context", "select_name"]

_PARTIAL_WRITE: Final = 0x1  # SSL_MODE_ENABLE_PARTIAL_WRITE
_NO_AUTO_CHAIN: Final = 0x8  # SSL_MODE_NO_AUTO_CHAIN
_ALLOW_CLIENT_RENEGOTIATION: Final = 0x100  # SSL_OP_ALLOW_CLIENT_RENEGOTIATION: OpenSSL 3 refuses it otherwise
_CRL_CHECK: Final = crypto.X509StoreFlags.CRL_CHECK
_PARTIAL_CHAIN: Final = crypto.X509StoreFlags.PARTIAL_CHAIN
_APPLICATION: Final = b"smtp"  # the one ALPN protocol that is spoken here

_WITHOUT: Final = {"TLSv1.1": SSL.OP_NO_TLSv1_1, "TLSv1.2": SSL.OP_NO_TLSv1_2}
"""The options that exclude a version between two others."""
_OLD: Final = {"TLSv1.0", "TLSv1.1"}

Chosen = TypeVar("Chosen")


class NoApplicationProtocolError(SSL.Error):
    """The client speaks other protocols than SMTP by its own account (ALPN).

    The one way to send the alert of RFC 7301, section 3.2, is an exception out of the callback, which then comes out
    of the handshake as it is.
    """


@frozen(slots=True, eq=False)
class ServerContext:
    """What new connections start from: an OpenSSL context, and the material that it was built of."""

    context: SSL.Context = field(repr=False)
    material: Material
    generation: int = 1
    """Which swap of the store brought it."""
    warnings: tuple[MaterialWarning, ...] = ()
    """Warnings about the material and its use."""
    loaded_at: datetime = field(factory=lambda: datetime.now(UTC))
    revocations: Revocations | None = field(default=None, repr=False)
    """The lists that chains of clients are looked up in; None if there are none."""
    _engines: WeakSet[Engine] = field(factory=WeakSet, init=False, repr=False)

    @property
    def requests_certificate(self) -> bool:
        """Whether clients are asked for a certificate."""
        return self.material.settings.request_certificate

    @property
    def sessions(self) -> int:
        """How many connections that began with this context, handshakes among them, are still under way."""
        return sum(not engine.released for engine in self._engines)

    def new_engine(self) -> Engine:
        """Begin a connection."""
        engine = Engine(self.context, accepts_servers=self.material.settings.client_purpose == "client-or-server")
        engine.verification.revocations = self.revocations
        self._engines.add(engine)
        return engine

    def ciphers(self) -> dict[str, tuple[str, ...]]:
        """Return, for each protocol version in force, the suites that clients can get, the preferred first.

        They are found by trying.  Blocking: half a millisecond for each.
        """
        protocols = self.material.settings.protocols
        return {
            each: effective_suites(self.context, each, self.material.settings.groups)
            for each in PROTOCOLS
            if each in protocols
        }

    def as_ssl_context(self) -> ssl.SSLContext:
        """Return the context for ``trio.SSLStream(stream, …, server_side=True)``, which then does the handshake itself.

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
        """Return the engine of a new connection, as :meth:`ssl.SSLContext.wrap_bio` does."""
        return self.new_engine().wrap_bio(incoming, outgoing, server_side, server_hostname, session)


def build_context(material: Material, generation: int = 1) -> ServerContext:
    """Build a context, for the swap that ``generation`` counts.

    Blocking: 0.3 ms for each server name, and longer with hundreds of client CAs.

    :raises MaterialError: if OpenSSL refuses what looked right (a key too weak for the security level, for example).
    """
    warnings = _unusable(material)
    context = _context(material, material.certificates)
    if material.server_names:
        named = {name: _context(material, group) for name, group in material.server_names.items()}
        context.set_tlsext_servername_callback(partial(_switch_context, named))
    revocations = None
    if material.revocations:
        revocations = Revocations(material.revocations, material.authorities)
    return ServerContext(context, material, generation, (*material.warnings, *warnings), revocations=revocations)


def _unusable(material: Material) -> tuple[MaterialWarning, ...]:
    """Try all certificates, and warn of those that no client can use beside others that one can.

    :raises MaterialError: if no client can use any of those that stand side by side.
    """
    warnings = []
    material = evolve(material, settings=evolve(material.settings, request_certificate=False))
    for group in (material.certificates, *material.server_names.values()):
        certificate = group[0].paths.certificate
        fault = find_unusable(_context(material, group), material.settings, group)
        if fault is not None:
            raise MaterialError("TLS_Certificate", certificate, fault)
        for each in group if len(group) > 1 else ():
            fault = find_unusable(_context(material, (each,)), material.settings, (each,), signed=True)
            if fault is not None:
                warnings.append(MaterialWarning("TLS_Certificate", each.paths.certificate, fault))
    return tuple(warnings)


def _context(material: Material, certificates: tuple[ServerCertificate, ...]) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"triosmtp")
    context.clear_mode(_PARTIAL_WRITE)
    context.set_mode(_NO_AUTO_CHAIN | SSL.MODE_RELEASE_BUFFERS)
    context.set_alpn_select_callback(_select_application)
    _use_versions(context, material)
    _use_ciphers(context, material)
    _use_dh(context, material)
    _use_groups(context, material.settings)
    for certificate in certificates:
        _use_certificate(context, certificate)
    _use_staples(context, certificates)
    if material.settings.request_certificate:
        context.set_verify(SSL.VERIFY_PEER, record_verification)
        context.set_verify_depth(material.settings.verify_depth)
        _use_authorities(context, material)
    if material.settings.allow_renegotiation:
        context.set_options(_ALLOW_CLIENT_RENEGOTIATION)
        context.set_info_callback(track_renegotiation)
    else:
        context.set_options(SSL.OP_NO_RENEGOTIATION)
    return context


def _use_versions(context: SSL.Context, material: Material) -> None:
    enabled = [protocol for protocol in PROTOCOLS if protocol in material.settings.protocols]
    lowest, highest = enabled[0], enabled[-1]
    context.set_min_proto_version(VERSIONS[lowest])
    context.set_max_proto_version(VERSIONS[highest])
    for protocol, option in _WITHOUT.items():
        if protocol not in enabled and lowest < protocol < highest:
            context.set_options(option)


def _use_ciphers(context: SSL.Context, material: Material) -> None:
    ciphers = material.cipher_list
    if material.dh_parameters is None:
        ciphers += ":!kDHE"
    if not _OLD.isdisjoint(material.settings.protocols):
        ciphers += ":@SECLEVEL=0"  # their signatures are made with SHA-1, which no other level allows
    set_ciphers(context, material.settings.ciphers, ciphers, material.cipher_suites)


def _use_dh(context: SSL.Context, material: Material) -> None:
    if material.dh_parameters is None:
        return
    try:
        with file_in_memory(material.dh_parameters) as path:
            context.load_tmp_dh(path)
    except (SSL.Error, crypto.Error) as error:
        reason = f"is refused by OpenSSL: {error_words(error)}"
        raise MaterialError("TLS_DHParams_File", material.settings.dhparams_file, reason) from None


def _use_groups(context: SSL.Context, settings: TLSSettings) -> None:
    if settings.groups:
        set_groups(context, settings.groups)
    elif settings.request_certificate:
        allow_client_key_curves(context)


def _use_certificate(context: SSL.Context, material: ServerCertificate) -> None:
    paths = material.paths
    try:
        with file_in_memory(b"".join(each.pem for each in material.chain)) as path:
            context.use_certificate_chain_file(path)
    except (SSL.Error, crypto.Error) as error:
        reason = f"is refused by OpenSSL: {error_words(error)}"
        raise MaterialError("TLS_Certificate", paths.certificate, reason) from None
    try:
        with suppress_warnings():
            context.use_privatekey(material.key)
        context.check_privatekey()
    except (SSL.Error, crypto.Error) as error:
        option, place = paths.key_place
        raise MaterialError(option, place, f"is refused by OpenSSL: {error_words(error)}") from None


def _use_staples(context: SSL.Context, certificates: tuple[ServerCertificate, ...]) -> None:
    staples = {
        certificate.chain[0].der: certificate.staple for certificate in certificates if certificate.staple is not None
    }
    if staples:
        context.set_ocsp_server_callback(_staple, staples)


def _staple(connection: SSL.Connection, staples: Mapping[bytes, OCSPStaple] | None) -> bytes:
    """Return the response for the certificate that this connection shows; nothing if there is none, or it is old."""
    certificate = connection.get_certificate()
    if certificate is None or staples is None:
        return b""
    staple = staples.get(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate))
    return staple.der if staple is not None and staple.in_force(datetime.now(UTC)) else b""


def _select_application(_connection: SSL.Connection, offered: list[bytes]) -> bytes:
    """Choose SMTP; refuse a client that names its protocols without SMTP, to prevent confusion of protocols."""
    if _APPLICATION in offered:
        return _APPLICATION
    raise NoApplicationProtocolError([("SSL routines", "", "no application protocol")])


def _switch_context(contexts: Mapping[str, SSL.Context], connection: SSL.Connection) -> None:
    """Set the certificates for the server name of a connection; it keeps the first ones if no name matches."""
    asked = connection.get_servername()
    context = None if asked is None else select_name(asked, contexts.get)
    if context is not None:
        connection.set_context(context)


def select_name(asked: bytes, find: Callable[[str], Chosen | None]) -> Chosen | None:
    """Find what belongs to a server name: exactly, else with ``*`` in the place of the left-most label (RFC 6125)."""
    try:
        name = name_key(asked.decode("ascii").removesuffix("."))
    except (DomainError, UnicodeDecodeError):
        return None
    found = find(name)
    if found is None:
        _, dot, parent = name.partition(".")
        found = find(f"*.{parent}") if dot else None
    return found


def _use_authorities(context: SSL.Context, material: Material) -> None:
    store = context.get_cert_store()
    assert store is not None, "a context of OpenSSL's has a store"
    if material.unfinished:
        store.set_flags(_PARTIAL_CHAIN)
    names = set()
    option: Option = "TLS_Client_CA"
    try:
        for authority in material.authorities:
            store.add_cert(authority.openssl)
            with suppress_warnings():
                name = authority.openssl.get_subject().der()
                if name not in names and material.settings.send_client_ca_names:
                    names.add(name)
                    context.add_client_ca(authority.openssl)
        option = "TLS_Client_CRL"
        for each in material.revocations:
            with file_in_memory(each.pem + b"\n") as place:  # pyOpenSSL's other way leads through cryptography
                store.load_locations(place)
        if material.settings.client_crls:  # of which there may be none that can be used: then nobody is verified
            store.set_flags(_CRL_CHECK)
    except (SSL.Error, crypto.Error) as error:
        path = material.settings.client_ca if option == "TLS_Client_CA" else None
        raise MaterialError(option, path, f"is refused by OpenSSL: {error_words(error)}") from None
