"""Files of passwords: who is known, and how each password is stored."""

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

from triosmtp.auth.password import SCRAM_ITERATIONS, form_of, is_hash, prepare_password, read_scram
from triosmtp.auth.secret import SCRAM_SALT, Likeness, Secret
from triosmtp.errors import TrioSMTPError
from triosmtp.state import open_regular

__all__ = ["PasswordFile", "StoreError", "split_lines", "user_of"]

_log = logging.getLogger("triosmtp.auth")

_LOOK: Final = 1.0
"""Seconds between two looks whether a file has changed, where that decides what is offered and nothing else."""
_MAX_BYTES: Final = 64 * 1024 * 1024


class StoreError(TrioSMTPError):
    """A file of passwords cannot be read; the text names the file, and no secret."""


@define(slots=True)
class _Contents:
    """What a file holds."""

    passwords: dict[str, str] = field(factory=dict)
    digests: dict[str, dict[str, str]] = field(factory=dict)
    faults: list[tuple[int, str]] = field(factory=list)
    """The lines that were skipped, each with what is wrong with it."""

    def forms(self) -> Counter[str]:
        """Count the users by how their passwords are stored: digests by their realm, ``""`` stands for any."""
        forms = Counter(_kind(stored) for stored in self.passwords.values())
        forms.update(f"digest:{realm}" for realms in self.digests.values() for realm in {"", *realms})
        return forms

    def likeness(self, key: bytes) -> Likeness:
        """Give what all secrets of the file have in common."""
        hashes: dict[str, str] = {}
        salts: set[tuple[int, int]] = set()
        derives = False
        for stored in self.passwords.values():
            form = form_of(stored)
            if not form:
                derives = True
            elif form.startswith("SCRAM-"):
                record = read_scram(stored)
                salts.add((record.iterations, len(record.salt)))
            if form:
                hashes.setdefault(form, stored)
        if derives or not salts:
            salts.add((SCRAM_ITERATIONS, SCRAM_SALT))
        return Likeness(key=key, hashes=hashes, derives=derives, salts=tuple(sorted(salts)))


@frozen(slots=True)
class _Reading:
    """What was read, and of which file."""

    mark: object
    contents: _Contents
    likeness: Likeness
    forms: Counter[str]


class PasswordFile:
    """A file of ``user:password`` lines, or with ``digests`` of ``user:realm:hash``; ``#`` begins a comment.

    It is read again when it has changed.  A line that is none of these is skipped, so that it locks out nobody else.
    ``cleartext`` is what stored_cleartext says: True, a password is never taken for a hash; False, it must be one;
    None, it is what it looks like.  ``key`` makes the decoys for users who are not known.
    """

    def __init__(
        self, path: Path, *, digests: bool = False, cleartext: bool | None = None, key: bytes | None = None
    ) -> None:
        self.path = path
        self._digests = digests
        self._cleartext = cleartext
        self._key = secrets.token_bytes(32) if key is None else key
        self._read: _Reading | None = None
        self._looked = -inf

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
        """The lines that were skipped when the file was last read, each with what is wrong with it."""
        faults = () if self._read is None else self._read.contents.faults
        return tuple(f'"{self.path}" line {number}: {reason}' for number, reason in faults)

    @property
    def users(self) -> int:
        """How many there were when the file was last read."""
        return 0 if self._read is None else len({*self._read.contents.passwords, *self._read.contents.digests})

    def served_by(self, forms: frozenset[str], realm: str = "") -> int:
        """Give how many of them can use a mechanism that takes passwords of these ``forms``, in ``realm``.

        1 if the file was never read: the mechanism is offered, and whoever uses it is told to come back.
        """
        if self._read is None:
            return 1
        return sum(self._read.forms[f"digest:{realm}" if form == "digest" else form] for form in forms)

    def lookup(self, user: str) -> Secret:
        """Give what is stored for ``user``.  Blocking.

        :raises StoreError: where the file cannot be read.
        """
        read = self._current()
        passwords, digests = read.contents.passwords, read.contents.digests
        known = user in passwords or user in digests
        return Secret(user, known, read.likeness, passwords.get(user, ""), digests.get(user, {}))

    def is_due(self, now: float) -> bool:
        """Whether it was not looked at for a second before ``now``: then :meth:`refresh` is to follow."""
        due = now - self._looked >= _LOOK
        if due:
            self._looked = now
        return due

    def refresh(self) -> None:
        """Read the file again where it has changed; while it cannot be read, what was read stays.  Blocking."""
        with suppress(StoreError):
            self._current()

    def check(self) -> None:
        """Read the file, and leave it to the caller to tell of its :attr:`faults`.  Blocking.

        :raises StoreError: where it cannot be used.
        """
        self._current(tell=False)

    def _current(self, *, tell: bool = True) -> _Reading:
        before = self._read
        try:
            with open_regular(self.path) as file:
                status = os.fstat(file.fileno())
                mark = (status.st_ino, status.st_dev, status.st_mtime_ns, status.st_size)
                if before is not None and before.mark == mark:
                    return before
                data = file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise StoreError(f'"{self.path}": {error.strerror}') from error
        if len(data) > _MAX_BYTES:
            raise StoreError(f'"{self.path}": longer than {_MAX_BYTES >> 20} MiB')
        contents = self._parse(data)
        self._read = read = _Reading(mark, contents, contents.likeness(self._key), contents.forms())
        for fault in self.faults if tell else ():
            _log.warning("%s: the line is skipped", fault)
        return read

    def _parse(self, data: bytes) -> _Contents:
        contents = _Contents()
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            raise StoreError(f'"{self.path}": not UTF-8') from None
        for number, line in enumerate(split_lines(text), 1):
            try:
                self._take(line, contents)
            except ValueError as error:
                contents.faults.append((number, str(error)))
        return contents

    def _take(self, line: str, contents: _Contents) -> None:
        user = user_of(line)
        if user is None:
            return
        rest = line.partition(":")[2]
        if not rest:
            raise ValueError("expected user:password")
        if not self._digests:
            contents.passwords[user] = self._password(rest)
            return
        realm, _, digest = rest.rpartition(":")
        if not realm or len(digest) != 32 or not all(c in "0123456789abcdefABCDEF" for c in digest):
            raise ValueError("expected user:realm:hash, an MD5 in hexadecimal")
        contents.digests.setdefault(user, {})[realm] = digest

    def _password(self, stored: str) -> str:
        if self._cleartext is False and not is_hash(stored):
            raise ValueError("not a hash, and stored_cleartext is false")
        if self._cleartext and is_hash(stored):
            raise ValueError("a hash, and stored_cleartext is true")
        if not form_of(stored):
            prepare_password(stored)  # to know that it can be; it stays what it is for mechanisms that do not prepare
        return stored


def split_lines(text: str) -> list[str]:
    """Give the lines of a file of passwords: they end with LF or CRLF, and with nothing else."""
    return text.replace("\r\n", "\n").split("\n")


def user_of(line: str) -> str | None:
    """Give the user whose line it is, prepared as those are who come; None for a comment or an empty line.

    :raises ValueError: where it is none of these.
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
