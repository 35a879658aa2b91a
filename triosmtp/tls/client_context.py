"""OpenSSL client contexts for connections to other servers, built again when their files change.

A context offers no resumption and no renegotiation.  Its callback lets every certificate pass and records what OpenSSL
says of it: :func:`.server_identity.check_server_identity` decides, before anything is sent.
"""

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio
from attrs import define, field, frozen
from OpenSSL import SSL, crypto

from triosmtp.tls.cipher import VERSIONS, set_ciphers, split_ciphers
from triosmtp.tls.pem import Files, file_in_memory, pem_authorities, read_file
from triosmtp.tls.server_certificate import ServerCertificate, load_certificate
from triosmtp.tls.settings import PROTOCOLS, CertificateFiles, MaterialError, MaterialWarning, Option
from triosmtp.tls.verify_callback import record_verification
from triosmtp.x509.certificate import suppress_warnings
from triosmtp.x509.error_queue import error_words

__all__ = ["ClientContext", "ClientTLSSettings", "client_warnings"]

_log = logging.getLogger("triosmtp.tls")

_PARTIAL_WRITE: Final = 0x1  # SSL_MODE_ENABLE_PARTIAL_WRITE
_NO_AUTO_CHAIN: Final = 0x8  # SSL_MODE_NO_AUTO_CHAIN
_LOOK: Final = 1.0
"""Seconds between two looks at the files."""
_SYSTEM: Final = 3600.0
"""Seconds after which the authorities of the system are read again."""
_THREADS: Final = trio.CapacityLimiter(1)


@frozen(slots=True, kw_only=True)
class ClientTLSSettings:
    """The certificate, authorities, ciphers and versions of a client, by the options of the same names."""

    ca: Path | None = None
    """The authorities; None: the system's."""
    certificate: Path | None = None
    key: Path | None = None
    """None: the certificate file has the key."""
    ciphers: str = "DEFAULT"
    protocols: tuple[str, ...] = ("TLSv1.2", "TLSv1.3")

    @property
    def files(self) -> tuple[tuple[Option, Path], ...]:
        """Every file with its option."""
        found: tuple[tuple[Option, Path | None], ...] = (
            ("TLS_CA", self.ca), ("TLS_Certificate", self.certificate), ("TLS_Key", self.key),
        )  # fmt: skip
        return tuple((option, path) for option, path in found if path is not None)


@define(slots=True)
class ClientContext:
    """The context for one set of settings.  :meth:`get` returns the one in force.

    Files that have changed are used from the next connection on.  If they cannot be used, the previous ones stay.
    """

    settings: ClientTLSSettings
    _context: SSL.Context | None = field(default=None, init=False, repr=False)
    _content: Files = field(factory=dict, init=False, repr=False)
    _looked: float = field(default=0.0, init=False)
    _built: float = field(default=0.0, init=False)
    _failure: str = field(default="", init=False)

    async def get(self) -> SSL.Context:
        """Return the context, after a look at the files, at most once a second.

        :raises MaterialError: if there is none yet, and the files cannot be used.
        """
        if self._context is None or time.monotonic() - self._looked >= _LOOK:
            self._looked = time.monotonic()
            await trio.to_thread.run_sync(self.refresh, limiter=_THREADS)
        assert self._context is not None, "refresh raises if there is none"
        return self._context

    def refresh(self) -> tuple[MaterialWarning, ...]:
        """Read the files, and build the context if they have changed.  Blocking.  Return warnings about new ones.

        :raises MaterialError: if they cannot be used, and there is no previous context.
        """
        files: Files = {}
        for option, path in self.settings.files:
            with suppress(MaterialError):  # it is in `files`, and build_client_context raises it
                read_file(option, path, files)
        now = time.monotonic()
        stale = self.settings.ca is None and now - self._built > _SYSTEM
        if self._context is not None and files == self._content and not stale:
            return ()
        self._content = files
        try:
            self._context, warnings = build_client_context(self.settings, dict(files))
        except MaterialError as error:
            if self._context is None:
                raise
            _log.error("%s: the files that were read before stay in use", error)
            return ()
        if self._built and files:
            _log.info("%s: read again", ", ".join(f'{option} "{path}"' for option, path in self.settings.files))
        self._built = now
        return warnings


def client_warnings(ca: Path | None, certificates: Sequence[Path], keys: Sequence[Path]) -> tuple[MaterialWarning, ...]:
    """Return warnings about the files of a client; none if they cannot be used, which is an error.  Blocking."""
    certificate, key = next(iter(certificates), None), next(iter(keys), None)
    with suppress(MaterialError):
        return build_client_context(ClientTLSSettings(ca=ca, certificate=certificate, key=key), {})[1]
    return ()


def build_client_context(settings: ClientTLSSettings, files: Files) -> tuple[SSL.Context, tuple[MaterialWarning, ...]]:
    """Build a context, and return it with warnings about its files.  Blocking.

    :raises MaterialError: if a file or an option cannot be used.
    """
    warnings: list[MaterialWarning] = []
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.clear_mode(_PARTIAL_WRITE)
    context.set_mode(_NO_AUTO_CHAIN | SSL.MODE_RELEASE_BUFFERS)
    enabled = [protocol for protocol in PROTOCOLS if protocol in settings.protocols]
    context.set_min_proto_version(VERSIONS[enabled[0]])
    context.set_max_proto_version(VERSIONS[enabled[-1]])
    set_ciphers(context, settings.ciphers, *split_ciphers(settings.ciphers))
    context.set_verify(SSL.VERIFY_PEER, record_verification)
    _use_authorities(context, settings.ca, files, warnings)
    if settings.certificate is not None:
        paths = CertificateFiles(settings.certificate, settings.key)
        _use_certificate(context, load_certificate(paths, files, warnings))
    return context, tuple(warnings)


def _use_authorities(context: SSL.Context, path: Path | None, files: Files, warnings: list[MaterialWarning]) -> None:
    if path is None:
        context.set_default_verify_paths()
        return
    store = context.get_cert_store()
    assert store is not None, "a context of OpenSSL's has a store"
    # Every certificate of the file is an anchor: a site pins an intermediate, or the certificate of the server itself.
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    for authority in pem_authorities(path, read_file("TLS_CA", path, files), warnings, option="TLS_CA"):
        store.add_cert(authority.openssl)


def _use_certificate(context: SSL.Context, material: ServerCertificate) -> None:
    option, place = material.paths.key_place
    try:
        with file_in_memory(b"".join(each.pem for each in material.chain)) as path:
            context.use_certificate_chain_file(path)
        with suppress_warnings():
            context.use_privatekey(material.key)
        context.check_privatekey()
    except (SSL.Error, crypto.Error) as error:
        raise MaterialError(option, place, f"is refused by OpenSSL: {error_words(error)}") from None
