"""Password files: the users, and how the password of each is stored."""

import logging
import os
import secrets
import stat
from collections import Counter
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Final

from attrs import define, field, frozen

from triosmtp.auth.password import SCRAM_ITERATIONS, hash_form, is_hash, parse_scram_record, prepare_password
from triosmtp.auth.stored_credentials import SCRAM_SALT, MockParameters, StoredCredentials
from triosmtp.errors import TrioSMTPError
from triosmtp.filesystem import open_regular

__all__ = ["AuthFileError", "PasswordFile", "split_lines", "user_of"]

_log = logging.getLogger("triosmtp.auth")

_CHECK_INTERVAL: Final = 1.0
"""Seconds between two checks for a changed file that only decide which mechanisms are offered."""
_MAX_BYTES: Final = 64 * 1024 * 1024


class AuthFileError(TrioSMTPError):
    """A password file or a file of certificates that cannot be used.  The text names the file, and no secret."""


@define(slots=True)
class _Contents:
    """The contents of a file."""

    passwords: dict[str, str] = field(factory=dict)
    digests: dict[str, dict[str, str]] = field(factory=dict)
    faults: list[tuple[int, str]] = field(factory=list)
    """The lines that were skipped: number and error."""

    def forms(self) -> Counter[str]:
        """Count the users by the form of their passwords: ``digest:REALM`` for digests, ``digest:`` for any realm."""
        forms = Counter(_kind(stored) for stored in self.passwords.values())
        forms.update(f"digest:{realm}" for realms in self.digests.values() for realm in {"", *realms})
        return forms

    def mock_parameters(self, key: bytes) -> MockParameters:
        """Return the properties that mock credentials share with the users of the file."""
        hashes: dict[str, str] = {}
        salts: set[tuple[int, int]] = set()
        derives = False
        for stored in self.passwords.values():
            form = hash_form(stored)
            if not form:
                derives = True
            elif form.startswith("SCRAM-"):
                record = parse_scram_record(stored)
                salts.add((record.iterations, len(record.salt)))
            if form:
                hashes.setdefault(form, stored)
        if derives or not salts:
            salts.add((SCRAM_ITERATIONS, SCRAM_SALT))
        return MockParameters(key=key, hashes=hashes, derives=derives, salts=tuple(sorted(salts)))


@frozen(slots=True)
class _Reading:
    """The contents that were read, and the version of the file: inode, device, time, size."""

    version: object
    contents: _Contents
    mock: MockParameters
    forms: Counter[str]


class PasswordFile:
    """A file of ``user:password`` lines, or with ``digests`` of ``user:realm:hash``; ``#`` begins a comment.

    The file is read again if it has changed.  A malformed line is skipped, so that it locks out no other user.
    ``cleartext`` is the value of stored_cleartext.  True: a hash is an error.  False: clear text is an error.  None:
    each line may have either.  ``key`` is the key that mock credentials of unknown users are derived from.
    """

    def __init__(
        self, path: Path, *, digests: bool = False, cleartext: bool | None = None, key: bytes | None = None
    ) -> None:
        self.path = path
        self._digests = digests
        self._cleartext = cleartext
        self._key = secrets.token_bytes(32) if key is None else key
        self._read: _Reading | None = None
        self._checked_at = -inf

    def __str__(self) -> str:
        return str(self.path)

    @property
    def is_exposed(self) -> bool:
        """Whether others than owner and group can read the file."""
        try:
            return bool(self.path.stat().st_mode & stat.S_IROTH)
        except OSError:
            return False

    @property
    def faults(self) -> tuple[str, ...]:
        """The lines that were skipped when the file was last read, each with its error."""
        faults = () if self._read is None else self._read.contents.faults
        return tuple(f'"{self.path}" line {number}: {reason}' for number, reason in faults)

    @property
    def users(self) -> int:
        """The number of users when the file was last read."""
        return 0 if self._read is None else len({*self._read.contents.passwords, *self._read.contents.digests})

    def served_by(self, forms: frozenset[str], realm: str = "") -> int:
        """Return how many users can use a mechanism for passwords of these ``forms``, in ``realm``.

        Return 1 if the file was never read: the mechanism is offered, and a client that uses it gets a temporary error.
        """
        if self._read is None:
            return 1
        return sum(self._read.forms[f"digest:{realm}" if form == "digest" else form] for form in forms)

    def lookup(self, user: str) -> StoredCredentials:
        """Return the credentials of ``user``, known or not.  It blocks.

        :raises AuthFileError: if the file cannot be read.
        """
        read = self._current()
        passwords, digests = read.contents.passwords, read.contents.digests
        known = user in passwords or user in digests
        return StoredCredentials(user, known, read.mock, passwords.get(user, ""), digests.get(user, {}))

    def is_due(self, now: float) -> bool:
        """Return whether the last check is a second before ``now``; then the caller must call :meth:`refresh`."""
        due = now - self._checked_at >= _CHECK_INTERVAL
        if due:
            self._checked_at = now
        return due

    def refresh(self) -> None:
        """Read the file again if it has changed.  If it cannot be read, the last contents stay.  It blocks."""
        with suppress(AuthFileError):
            self._current()

    def check(self) -> None:
        """Read the file without logging its :attr:`faults`.  It blocks.

        :raises AuthFileError: if it cannot be used.
        """
        self._current(log=False)

    def _current(self, *, log: bool = True) -> _Reading:
        before = self._read
        try:
            with open_regular(self.path) as file:
                status = os.fstat(file.fileno())
                version = (status.st_ino, status.st_dev, status.st_mtime_ns, status.st_size)
                if before is not None and before.version == version:
                    return before
                data = file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise AuthFileError(f'"{self.path}": {error.strerror}') from error
        if len(data) > _MAX_BYTES:
            raise AuthFileError(f'"{self.path}": longer than {_MAX_BYTES >> 20} MiB')
        contents = self._parse(data)
        self._read = read = _Reading(version, contents, contents.mock_parameters(self._key), contents.forms())
        for fault in self.faults if log else ():
            _log.warning("%s: the line is skipped", fault)
        return read

    def _parse(self, data: bytes) -> _Contents:
        contents = _Contents()
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            raise AuthFileError(f'"{self.path}": not UTF-8') from None
        for number, line in enumerate(split_lines(text), 1):
            try:
                self._parse_line(line, contents)
            except ValueError as error:
                contents.faults.append((number, str(error)))
        return contents

    def _parse_line(self, line: str, contents: _Contents) -> None:
        user = user_of(line)
        if user is None:
            return
        rest = line.partition(":")[2]
        if not rest:
            raise ValueError("expected user:password")
        if not self._digests:
            contents.passwords[user] = self._check_form(rest)
            return
        realm, _, digest = rest.rpartition(":")
        if not realm or len(digest) != 32 or not all(c in "0123456789abcdefABCDEF" for c in digest):
            raise ValueError("expected user:realm:hash, an MD5 in hexadecimal")
        contents.digests.setdefault(user, {})[realm] = digest

    def _check_form(self, stored: str) -> str:
        if self._cleartext is False and not is_hash(stored):
            raise ValueError("not a hash, and stored_cleartext is false")
        if self._cleartext and is_hash(stored):
            raise ValueError("a hash, and stored_cleartext is true")
        if not hash_form(stored):
            prepare_password(stored)  # raises if it cannot be; CRAM-MD5 and DIGEST-MD5 need it unprepared
        return stored


def split_lines(text: str) -> list[str]:
    """Return the lines of a password file.  Only LF and CRLF end a line."""
    return text.replace("\r\n", "\n").split("\n")


def user_of(line: str) -> str | None:
    """Return the user of a line, prepared by SASLprep; None for a comment or an empty line.

    :raises ValueError: if it is none of these.
    """
    if not line.strip() or line.lstrip().startswith("#"):
        return None
    user, colon, _ = line.partition(":")
    if not (colon and user):
        raise ValueError("expected user:password")
    return prepare_password(user)


def _kind(stored: str) -> str:
    if not is_hash(stored):
        return "cleartext"
    return "scram" if stored.startswith("SCRAM-") else "hash"
