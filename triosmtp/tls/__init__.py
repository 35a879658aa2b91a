"""TLS.  Inbound, a client certificate that does not verify never ends the session.

The modules, in the order in which a connection uses them::

    settings.py             what the options ask for, as values
    material.py             files → Material: read once, checked, with warnings  (a thread, before anybody connects)
    server_certificate.py   a certificate of the server with its chain, key (pem.py) and staple (ocsp.py)
    cipher.py, dh.py        cipher lists and Diffie-Hellman groups
    key_exchange_groups.py  groups of key exchange
    trial_handshake.py      whether any client can use a context's certificates
    context.py              Material → ServerContext: OpenSSL's settings
    context_store.py        settings → ServerContext: the contexts in force, renewed and swapped whole
    renewal_check.py        whether new material may take the place of the old; certificates that end soon
    certificate_renewal.py  when to renew them: as soon as a file has changed  (path_entries.py, inotify.py)
    handshake.py            transport → TLSStream + TLSInfo, or HandshakeError  (handshake_failure.py: the reasons)
    large_flight.py         large flights: which wait for a thread, and which are too large
    handshake_scheduler.py  handshakes on the event loop, some milliseconds of them at a time
    stream.py               the encrypted stream: a trio.SSLStream with a short way past it
    engine.py               the TLS object that SSLStream uses: pyOpenSSL over memory  (its docstring explains why)
    openssl_memory.py       OpenSSL's functions for ciphertext and plaintext in memory, without pyOpenSSL's cost
    channel_bindings.py     the bindings of an authentication to this connection
    verify_callback.py      OpenSSL's results for the client's certificate
    tls_info.py             TLSInfo of the finished connection: whether the client certificate verified is decided here
    server_purpose.py       whether a chain verifies only as the chain of a server
    revocation.py           revocation lists, and whether they list a certificate of a chain

For connections to other servers::

    client_context.py       files → a context for clients, built again when they change
    client.py               TLSClient: the handshake and the stream as a client
    server_identity.py      whether the server's certificate is the expected one

Certificates by themselves are the subject of :mod:`triosmtp.x509`.  For the commands alone: ``probe_client.py`` looks
at another server, ``chain_findings.py`` at a chain as its clients see it.
"""

from typing import TYPE_CHECKING

from triosmtp.lazy_import import lazy_names

if TYPE_CHECKING:
    from triosmtp.tls.channel_bindings import channel_binding
    from triosmtp.tls.context import ServerContext, build_context
    from triosmtp.tls.context_store import CertificateProblem, ContextStore, Renewal, renew
    from triosmtp.tls.handshake_failure import REASONS, HandshakeReason
    from triosmtp.tls.material import Material, load_material
    from triosmtp.tls.server_certificate import ServerCertificate
    from triosmtp.tls.settings import PROTOCOLS, CertificateFiles, MaterialError, MaterialWarning, TLSSettings
    from triosmtp.tls.stream import TLSStream

__all__ = [
    "PROTOCOLS",
    "REASONS",
    "CertificateFiles",
    "CertificateProblem",
    "ContextStore",
    "HandshakeReason",
    "Material",
    "MaterialError",
    "MaterialWarning",
    "Renewal",
    "ServerCertificate",
    "ServerContext",
    "TLSSettings",
    "TLSStream",
    "build_context",
    "channel_binding",
    "load_material",
    "renew",
]  # fmt: skip

_MODULES = {
    "triosmtp.tls.channel_bindings": ("channel_binding",),
    "triosmtp.tls.context": ("ServerContext", "build_context"),
    "triosmtp.tls.handshake_failure": ("REASONS", "HandshakeReason"),
    "triosmtp.tls.server_certificate": ("ServerCertificate",),
    "triosmtp.tls.material": ("Material", "load_material"),
    "triosmtp.tls.settings": ("PROTOCOLS", "CertificateFiles", "MaterialError", "MaterialWarning", "TLSSettings"),
    "triosmtp.tls.context_store": ("CertificateProblem", "ContextStore", "Renewal", "renew"),
    "triosmtp.tls.stream": ("TLSStream",),
}

if not TYPE_CHECKING:  # a type checker would accept any name
    __getattr__ = lazy_names(__name__, _MODULES)
