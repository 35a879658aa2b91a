"""The TLS context of an HTTP client, by its options, built again when its files change."""

import logging
import re
import ssl
from math import inf
from pathlib import Path
from typing import Final, Literal

import trio
from attrs import define, field

__all__ = ["TLSFiles", "TLSFilesError"]

_log = logging.getLogger("triosmtp.tls")

_CHECK_INTERVAL: Final = 1.0
"""Seconds between two checks for changed files."""
_THREADS: Final = trio.CapacityLimiter(1)
_VERSIONS: Final = {
    "TLSv1.0": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}


class TLSFilesError(ValueError):
    """A file or an option cannot be used; ``option`` is its name."""

    def __init__(self, option: str, reason: str) -> None:
        self.option = option
        super().__init__(reason)


@define(slots=True)
class TLSFiles:
    """The files and the options of one client.  Without ``ca``, the system's authorities are trusted.

    With ``ca``, each certificate of the file is trusted, also one of the server itself.

    Files that have changed are used from the next connection on.  If they cannot be used, the former ones stay in use,
    and the log says so.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    """None: the file of the certificate has the key."""
    verify: Literal["no", "ca", "host"] = "host"
    """Whether the certificate of the server must be of the authorities, and for its name."""
    fingerprints: tuple[tuple[str, str], ...] = ()
    """Pairs of ``sha256`` or ``spki`` and digits, one of which it must have; if there are any, nothing else matters.

    They are compared by :class:`.http_client.HTTPClient`, after the handshake."""
    ciphers: str = ""
    """OpenSSL's cipher list, ``""`` for its default.  Names of TLS 1.3 are left out: Python cannot set them."""
    protocols: tuple[str, ...] = ("TLSv1.2", "TLSv1.3")
    _context: ssl.SSLContext | None = field(default=None, init=False, repr=False)
    _versions: tuple[object, ...] = field(default=(), init=False, repr=False)
    _checked_at: float = field(default=-inf, init=False, repr=False)
    _failed: str = field(default="", init=False, repr=False)

    def load(self) -> ssl.SSLContext:
        """Return the context; build it again if a file has changed.  It blocks.

        :raises TLSFilesError: if a file or an option cannot be used; the text names the file.
        """
        versions = tuple(map(_version, filter(None, (self.ca, self.certificate, self.key))))
        if self._context is None or versions != self._versions:
            self._context, self._versions = self._new_context(), versions
        return self._context

    def _new_context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except OSError as error:
            raise TLSFilesError("TLS_CA", f'"{self.ca}": {_reason(error)}') from None
        if self.ca is not None:
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if self.verify != "host" or self.fingerprints:
            context.check_hostname = False
        if self.verify == "no" or self.fingerprints:
            context.verify_mode = ssl.CERT_NONE
        used = sorted(_VERSIONS[each] for each in self.protocols)
        context.minimum_version, context.maximum_version = used[0], used[-1]
        if names := [name for name in re.split(r"[:, ]+", self.ciphers) if name and not name.startswith("TLS_")]:
            try:
                context.set_ciphers(":".join(names))
            except ssl.SSLError:
                raise TLSFilesError("TLS_Ciphers", f'OpenSSL has no cipher of "{self.ciphers}"') from None
        if self.certificate is not None:
            self._load_pair(context, self.certificate)
        return context

    def _load_pair(self, context: ssl.SSLContext, certificate: Path) -> None:
        try:
            # A password would be asked for on the terminal.
            context.load_cert_chain(certificate, self.key, password=_no_password)
        except (OSError, ValueError) as error:
            names = " with ".join(f'"{path}"' for path in (certificate, self.key) if path is not None)
            raise TLSFilesError("TLS_Certificate", f"{names}: {_reason(error)}") from None

    async def context(self) -> ssl.SSLContext:
        """Return the context in force.

        :raises ValueError: if there is none yet, and a file cannot be used.
        """
        now = trio.current_time()
        if self._context is None or now - self._checked_at >= _CHECK_INTERVAL:
            self._checked_at = now
            try:
                context = await trio.to_thread.run_sync(self.load, limiter=_THREADS, abandon_on_cancel=True)
            except ValueError as error:
                if self._context is None:
                    raise
                if str(error) != self._failed:
                    self._failed = str(error)
                    _log.error("%s: the former TLS files of the client stay in use", error)
            else:
                self._failed = ""
                return context
        assert self._context is not None
        return self._context


def _version(path: Path) -> object:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_dev, status.st_mtime_ns, status.st_size


def _no_password() -> bytes:
    raise ValueError("the key is encrypted")


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
