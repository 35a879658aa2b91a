"""Files of passwords: who is known, and what a password is checked against.

**The theory.**  Nobody may find out who is known here: not by an answer, nor by how long it takes.  So there is no "no
such user" inside: a look-up always gives a :class:`Secret`, and for a user who is not known one of the same kind as
those of the file, which takes the same work and proves nobody.  Its salt is made of the name by a key of this process,
so that asking twice gives the same.
"""

import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import evolve, field, frozen

from triosmtp.auth.password import SCRAM_ITERATIONS, ScramKeys, derive_scram, is_hash, read_scram, verify_password
from triosmtp.errors import TrioSMTPError

__all__ = ["PasswordFile", "Secret", "StoreError"]

_MAX_BYTES: Final = 64 * 1024 * 1024
_KEY: Final = secrets.token_bytes(32)


class StoreError(TrioSMTPError):
    """A file of passwords cannot be read or has a line that is none; the text names file and line, and no secret."""


@frozen(slots=True)
class Secret:
    """What is stored for a user, or for one who is not known: then nothing that it gives proves anybody."""

    _stored: str = field(repr=False)
    _user: str
    known: bool
    digests: Mapping[str, str] = field(factory=dict, repr=False)
    """By realm, ``MD5(user:realm:password)`` in hexadecimal."""
    keys: ScramKeys | None = field(default=None, repr=False)

    @property
    def reason(self) -> str:
        """Why it proves nobody, for the log."""
        if not self.known:
            return "no such user"
        return "" if self.cleartext is not None or self._stored.startswith("SCRAM-") or self.digests else "only a hash"

    @property
    def cleartext(self) -> str | None:
        """The password itself, where it is stored so."""
        return self._stored if self.known and self._stored and not is_hash(self._stored) else None

    @property
    def decoy(self) -> str:
        """A password that nobody knows, to do the same work with."""
        return hmac.digest(_KEY, self._user.encode(), "sha256").hex()

    def derived(self) -> "Secret":
        """Give the same with the keys of SCRAM in it, so that nothing is left that blocks.  Blocking: 10 ms."""
        return evolve(self, keys=self._keys())

    def verify(self, password: str) -> bool:
        """Whether ``password`` is the right one.  Blocking; the same work for a user who is not known."""
        return verify_password(self._stored, password) and self.known

    def digest(self, user: str, realm: str) -> bytes | None:
        """Give the octets of ``MD5(user:realm:password)`` (RFC 2831, section 2.1.2.1), or None."""
        if realm in self.digests:
            return bytes.fromhex(self.digests[realm])
        if self.cleartext is None:
            return None
        return hashlib.md5(f"{user}:{realm}:{self.cleartext}".encode(), usedforsecurity=False).digest()

    @property
    def decoy_digest(self) -> bytes:
        """What stands in its place where there is none."""
        return hashlib.md5(self.decoy.encode(), usedforsecurity=False).digest()

    @property
    def scram(self) -> ScramKeys:
        """The keys of SCRAM-SHA-256: decoys where there are none.  Blocking but after :meth:`derived`."""
        return self.keys or self._keys()

    def _keys(self) -> ScramKeys:
        if self._stored.startswith("SCRAM-SHA-256$") and self.known:
            return read_scram(self._stored)
        salt = hmac.digest(_KEY, b"salt:" + self._user.encode(), "sha256")[:16]
        if self._stored.startswith("SCRAM-SHA-256$"):  # of somebody else: its cost is what is wanted
            decoys = (hmac.digest(_KEY, kind + self._user.encode(), "sha256") for kind in (b"stored:", b"server:"))
            return ScramKeys(salt, read_scram(self._stored).iterations, *decoys)
        return derive_scram(self.cleartext or self.decoy, salt, SCRAM_ITERATIONS)


class PasswordFile:
    """A file of ``user:password`` lines, or with ``digests`` of ``user:realm:hash``; ``#`` begins a comment.

    It is read again when it has changed.  ``cleartext`` is what stored_cleartext says: True, a password is never taken
    for a hash; False, it must be one; None, it is what it looks like.
    """

    def __init__(self, path: Path, *, digests: bool = False, cleartext: bool | None = None) -> None:
        self.path = path
        self._digests = digests
        self._cleartext = cleartext
        self._read: tuple[object, dict[str, str], dict[str, dict[str, str]]] | None = None

    def __str__(self) -> str:
        return str(self.path)

    @property
    def is_exposed(self) -> bool:
        """Whether others than owner and group can read the file."""
        try:
            return bool(self.path.stat().st_mode & stat.S_IROTH)
        except OSError:
            return False

    def lookup(self, user: str) -> Secret:
        """Give what is stored for ``user``.  Blocking.

        :raises StoreError: where the file cannot be read.
        """
        _, passwords, digests = self._current()
        if user in passwords or user in digests:
            return Secret(passwords.get(user, ""), user, known=True, digests=digests.get(user, {}))
        # Of the kind that the file has, so that it costs the same.
        like = next(iter(passwords.values()), "")
        return Secret(like if is_hash(like) else secrets.token_hex(16), user, known=False)

    def check(self) -> None:
        """Read the file.  Blocking.

        :raises StoreError: where it cannot be used.
        """
        self._current()

    def _current(self) -> tuple[object, dict[str, str], dict[str, dict[str, str]]]:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(file.fileno())
                mark = (status.st_ino, status.st_dev, status.st_mtime_ns, status.st_size)
                if self._read is not None and self._read[0] == mark:
                    return self._read
                data = file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise StoreError(f'"{self.path}": {error.strerror}') from error
        if len(data) > _MAX_BYTES:
            raise StoreError(f'"{self.path}": longer than {_MAX_BYTES >> 20} MiB')
        self._read = (mark, *self._parse(data))
        return self._read

    def _parse(self, data: bytes) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        passwords: dict[str, str] = {}
        digests: dict[str, dict[str, str]] = {}
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            raise StoreError(f'"{self.path}": not UTF-8') from None
        for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            user, colon, rest = line.partition(":")
            if not (colon and user and rest):
                raise StoreError(f'"{self.path}" line {number}: expected user:password')
            if self._digests:
                realm, _, digest = rest.rpartition(":")
                if not realm or len(digest) != 32 or not all(c in "0123456789abcdefABCDEF" for c in digest):
                    raise StoreError(f'"{self.path}" line {number}: expected user:realm:hash, an MD5 in hexadecimal')
                digests.setdefault(user, {})[realm] = digest
            else:
                passwords[user] = self._password(rest, number)
        return passwords, digests

    def _password(self, stored: str, number: int) -> str:
        if self._cleartext is False and not is_hash(stored):
            raise StoreError(f'"{self.path}" line {number}: not a hash, and stored_cleartext is false')
        if is_hash(stored):
            if self._cleartext:
                raise StoreError(f'"{self.path}" line {number}: a hash, and stored_cleartext is true')
            try:
                verify_form(stored)
            except ValueError as error:
                raise StoreError(f'"{self.path}" line {number}: {error}') from None
        return stored


def verify_form(stored: str) -> None:
    """Look at the form of a hash, as cheaply as can be.

    :raises ValueError: where it is malformed.
    """
    if stored.startswith("SCRAM-SHA-256$"):
        read_scram(stored)
    elif stored.count("$") < 4:
        raise ValueError("a malformed hash")
