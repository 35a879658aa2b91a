"""The key that mock credentials of unknown users are derived from: the same in all workers, and after a restart.

With Mock_Credentials_File, it is the same on all nodes, too.

SCRAM sends the salt of a user, which stays the same for years and in every worker.  A salt of an unknown user that
changed would show that there is no such user.
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
from triosmtp.filesystem import make_directory, open_regular, state_directory, sync_directory

__all__ = ["MockKey"]

_log = logging.getLogger("triosmtp.auth")

_NAME: Final = "mock_credentials.key"
_SIZE: Final = 32


@define(slots=True)
class MockKey:
    """The key of mock credentials, 32 octets.

    With ``kept`` it is read from the state folder when it is first needed, and created there if it is missing.  With
    ``file`` it is read from that file.  A pickled copy, such as that of a worker, has the same key.
    """

    kept: bool = False
    file: Path | None = None
    _key: bytes | None = field(default=None, repr=False)
    _temporary: bytes = field(factory=lambda: secrets.token_bytes(_SIZE), repr=False)

    def get(self) -> bytes:
        """Return the key.  The first call blocks."""
        if self._key is None:
            self._key = self._load() if self.kept or self.file else self._temporary
        return self._key

    def check(self) -> None:
        """Read the key of ``file``.  It blocks.

        :raises OSError: if the file cannot be read.
        :raises ValueError: if it is no key, or other users can read it.
        """
        if self.file is not None:
            self._key = _read(self.file)

    def _load(self) -> bytes:
        try:
            path = self.file or state_directory() / _NAME
            if self.file is not None:
                return _read(path)
            with suppress(FileNotFoundError):
                return _read(path)
            make_directory(path.parent)
            _make(path)
            return _read(path)
        except OSError as error:
            reason = f"{error.filename or path}: {error.strerror or error}"
        except (ConfigError, ValueError) as error:
            reason = str(error)
        _log.warning(
            "a client can tell unknown users from known ones by their salts before and after a restart: %s", reason
        )
        return self._temporary


def _read(path: Path) -> bytes:
    with open_regular(path, os.O_NOFOLLOW) as file:
        status = os.fstat(file.fileno())
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise ValueError(f"{path}: not owned by this user, or accessible to others")
        key = file.read(_SIZE + 1)
    if len(key) != _SIZE:
        raise ValueError(f"{path}: not {_SIZE} octets")
    return key


def _make(path: Path) -> None:
    """Create the file in one step.  A file that another process has created meanwhile stays."""
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
