"""The key that makes the decoys for users who are not known: one for the whole service, whenever it is asked.

A real user shows SCRAM's clients the same salt for years, from whichever worker.  So must a decoy.
"""

import logging
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from attrs import define, field

from triosmtp.errors import ConfigError
from triosmtp.state import make_directory, open_regular, state_directory, sync_directory

__all__ = ["DecoyKey"]

_log = logging.getLogger("triosmtp.auth")

_NAME: Final = "decoy.key"
_SIZE: Final = 32


@define(slots=True)
class DecoyKey:
    """The key; with ``kept`` it is that of the state folder, where it is made if it is missing.

    It is had when it is first needed.  It may be pickled: whoever gets it has the same key, kept or not.
    """

    kept: bool = False
    _key: bytes | None = field(default=None, repr=False)
    _otherwise: bytes = field(factory=lambda: secrets.token_bytes(_SIZE), repr=False)

    def get(self) -> bytes:
        """Give the key.  Blocking the first time."""
        if self._key is None:
            self._key = self._load() if self.kept else self._otherwise
        return self._key

    def _load(self) -> bytes:
        try:
            path = state_directory() / _NAME
            with suppress(FileNotFoundError):
                return _read(path)
            make_directory(path.parent)
            _make(path)
            return _read(path)
        except OSError as error:
            reason = f"{error.filename or path}: {error.strerror or error}"
        except (ConfigError, ValueError) as error:
            reason = str(error)
        _log.warning("whoever asks before and after a restart can tell unknown users from known ones: %s", reason)
        return self._otherwise


def _read(path: Path) -> bytes:
    with open_regular(path, os.O_NOFOLLOW) as file:
        status = os.fstat(file.fileno())
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise ValueError(f"{path}: not a file that is ours alone")
        key = file.read(_SIZE + 1)
    if len(key) != _SIZE:
        raise ValueError(f"{path}: not {_SIZE} octets")
    return key


def _make(path: Path) -> None:
    """Make the file in one step; one that another process made meanwhile stays."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_SIZE))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(name, path)
        sync_directory(path.parent)
    finally:
        Path(name).unlink()
