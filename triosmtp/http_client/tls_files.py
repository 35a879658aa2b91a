"""The TLS context of an HTTP client: authorities and a client certificate, read again when their files change."""

import logging
import ssl
from math import inf
from pathlib import Path
from typing import Final

import trio
from attrs import define, field

__all__ = ["TLSFiles"]

_log = logging.getLogger("triosmtp.tls")

_CHECK_INTERVAL: Final = 1.0
"""Seconds between two checks for changed files."""
_THREADS: Final = trio.CapacityLimiter(1)


@define(slots=True)
class TLSFiles:
    """The files of one client.  Without ``ca``, the system's authorities are trusted.

    Files that have changed are used from the next connection on.  If they cannot be used, the former ones stay in use,
    and the log says so.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    """None: the file of the certificate has the key."""
    _context: ssl.SSLContext | None = field(default=None, init=False, repr=False)
    _versions: tuple[object, ...] = field(default=(), init=False, repr=False)
    _checked_at: float = field(default=-inf, init=False, repr=False)
    _failed: str = field(default="", init=False, repr=False)

    def load(self) -> ssl.SSLContext:
        """Return the context; build it again if a file has changed.  It blocks.

        :raises ValueError: if a file cannot be used; the text names it.
        """
        versions = tuple(map(_version, filter(None, (self.ca, self.certificate, self.key))))
        if self._context is None or versions != self._versions:
            context = ssl.create_default_context(cafile=self._existing(self.ca))
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.certificate is not None:
                self._load_pair(context, self.certificate)
            self._context, self._versions = context, versions
        return self._context

    def _existing(self, path: Path | None) -> Path | None:
        if path is not None:
            try:
                ssl.create_default_context(cafile=path)
            except OSError as error:
                raise ValueError(f'"{path}": {_reason(error)}') from None
        return path

    def _load_pair(self, context: ssl.SSLContext, certificate: Path) -> None:
        try:
            # A password would be asked for on the terminal.
            context.load_cert_chain(certificate, self.key, password=_no_password)
        except (OSError, ValueError) as error:
            names = " with ".join(f'"{path}"' for path in (certificate, self.key) if path is not None)
            raise ValueError(f"{names}: {_reason(error)}") from None

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
