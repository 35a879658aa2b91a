"""A file that holds one secret: a password, the secret of signatures, credentials.

No text that this module makes holds the secret: not the ``str()`` or ``repr()`` of the file, not its errors.
"""

import logging
import os
import stat
from functools import cache
from math import inf
from pathlib import Path
from typing import Final

import trio

from triosmtp.errors import TrioSMTPError
from triosmtp.filesystem import open_regular

__all__ = ["SecretFile", "SecretFileError"]

_log = logging.getLogger("triosmtp.delivery")

_CHECK_INTERVAL: Final = 1.0
"""Seconds between two checks for a changed file."""
_MAX_SIZE: Final = 64 * 1024


@cache
def _threads() -> "trio.CapacityLimiter":  # made at its first use, as `triosmtp check` does not load trio
    """Return the limiter of threads that check secret files, separate from all others."""
    return trio.CapacityLimiter(2)


class SecretFileError(TrioSMTPError):
    """A secret file that cannot be used.  The text names the file, and no secret."""


class SecretFile:
    """The file ``path``, with one secret on a line of its own; or at most ``secrets`` of them, the newest first.

    With ``whole``, the secret is the whole content.  A file that has changed is read again at the next use, at most
    once a second.  If it cannot be read then, or holds no secret, the former secret stays in use, and the log says so.
    """

    def __init__(self, path: Path, *, secrets: int = 1, whole: bool = False) -> None:
        self.path = path
        self._secrets = secrets
        self._whole = whole
        self._values: tuple[str, ...] = ()
        self._version: object = None
        self._checked_at = -inf
        self._failed = ""

    def __str__(self) -> str:
        return str(self.path)

    @property
    def exposure(self) -> str:
        """A warning if others than the owner can read or change the file; else ``""``."""
        try:
            mode = self.path.stat().st_mode
        except OSError:
            return ""
        if not mode & (stat.S_IRWXG | stat.S_IRWXO):
            return ""
        return f"{self.path}: DANGER: others can read or change it (mode {stat.S_IMODE(mode):04o}); chmod 600 it"

    @property
    def current(self) -> tuple[str, ...]:
        """The secrets as they were read last; none before."""
        return self._values

    def check(self) -> None:
        """Read the file.  It blocks.

        :raises SecretFileError: if it cannot be used.
        """
        try:
            with open_regular(self.path) as file:
                status = os.fstat(file.fileno())
                version = status.st_ino, status.st_dev, status.st_mtime_ns, status.st_size
                if version == self._version:
                    return
                data = file.read(_MAX_SIZE + 1)
        except OSError as error:
            raise SecretFileError(f'"{self.path}": {error.strerror}') from None
        self._values, self._version = self._parse(data), version

    def _parse(self, data: bytes) -> tuple[str, ...]:
        if len(data) > _MAX_SIZE:
            raise SecretFileError(f'"{self.path}": longer than {_MAX_SIZE >> 10} KiB')
        text = _decode(data)
        if text is None:
            raise SecretFileError(f'"{self.path}": not UTF-8')
        found: tuple[str, ...]
        if self._whole:
            found = (text,) if text.strip() else ()
        else:
            found = tuple(filter(None, (line.strip() for line in text.splitlines())))
        if not 1 <= len(found) <= self._secrets:
            expected = "one secret" if self._secrets == 1 else f"one to {self._secrets} secrets, each on its line"
            raise SecretFileError(f'"{self.path}": expected {expected}, found {len(found)}')
        return found

    async def read(self) -> tuple[str, ...]:
        """Return the secrets, the newest first.

        :raises SecretFileError: if the file could never be read.
        """
        now = trio.current_time()
        if now - self._checked_at >= _CHECK_INTERVAL:
            self._checked_at = now
            try:
                await trio.to_thread.run_sync(self.check, limiter=_threads(), abandon_on_cancel=True)
            except SecretFileError as error:
                if not self._values:
                    self._checked_at = -inf
                    raise
                if str(error) != self._failed:
                    _log.error("%s: the former secret stays in use", error)
                self._failed = str(error)
            else:
                self._failed = ""
        return self._values


def _decode(data: bytes) -> str | None:
    """Return the text, or None: the exception for what is not UTF-8 would hold the data."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None
