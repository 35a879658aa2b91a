"""Files of recipients: which addresses exist in the domains that mail is accepted for (Known_Recipients).

Eight octets of each line are kept: a hash with a random key, in one of 256 sorted arrays.  So a million lines use
10 MB in every worker, and twice that while a changed file is read.  An address that is not listed has the hash of a
listed one in one of 10¹³ cases, for a list of a million.  Without the key, no client can search for such an address.
"""

import logging
import os
import re
import threading
import time
from array import array
from bisect import bisect_left
from codecs import BOM_UTF8
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from math import inf
from pathlib import Path
from secrets import token_bytes
from typing import BinaryIO, Final

from attrs import define, field

from triosmtp.domain import domain_key
from triosmtp.errors import TrioSMTPError
from triosmtp.filesystem import open_regular
from triosmtp.smtp import PathError, parse_path

__all__ = ["RecipientFile", "RecipientFileError"]

_log = logging.getLogger("triosmtp.server")

_LOOK: Final = 1.0
"""Seconds between two checks whether a file has changed."""
_SETTLED: Final = 1.0
"""Seconds since the last change before a file is read: a program may still write it in place."""
_MAX_LINE: Final = 2048
"""Octets of a line: a longer address fits no command."""
_FAULTS: Final = 10
"""Lines that are logged as skipped; of further ones, their number is."""
_LINE: Final = re.compile(rb'((?:"(?:[^"\\]|\\.)*")?[^\s"]*)(?:[ \t]+#.*)?')
"""A recipient, and a comment after blanks."""
_EVERYBODY: Final = "\0"
"""A wildcard instead of a local part, or after one.  No address contains it, not even a quoted one."""
_EXPECTED: Final = "expected user@domain, @domain or user+*@domain"


class RecipientFileError(TrioSMTPError, ValueError):
    """A file of recipients cannot be used.  The text names the file."""


@define(slots=True)
class _Contents:
    """The content of a file, with the state of the file."""

    mark: object
    hashes: tuple["array[int]", ...] = field(factory=lambda: tuple(array("Q") for _ in range(256)), repr=False)
    faults: list[str] = field(factory=list)
    skipped: int = 0
    """Lines that are not recipients."""
    lines: int = 0
    """The number of recipients, with repetitions."""


class RecipientFile:
    """A file with a recipient on each line; ``#`` begins a comment.  It is read again after a change.

    ``fold`` compares local parts without regard to case.
    """

    def __init__(self, path: Path, *, fold: bool) -> None:
        self.path = path
        self._fold = fold
        self._hash = partial(blake2b, digest_size=8, key=token_bytes(32))
        self._contents: _Contents | None = None
        self._looked = -inf
        self._reading = threading.Lock()
        self._failure = ""  # of the last check, so that it is logged once

    def __str__(self) -> str:
        return str(self.path)

    @property
    def is_read(self) -> bool:
        """Whether it was ever read."""
        return self._contents is not None

    @property
    def faults(self) -> tuple[str, ...]:
        """The lines that were skipped when the file was last read: the first ones with their error, then a number."""
        contents = self._contents
        if contents is None:
            return ()
        faults = [f'"{self.path}" {fault}' for fault in contents.faults]
        if contents.skipped > len(faults):
            faults.append(f'"{self.path}": {contents.skipped - len(faults)} more lines are not recipients')
        return tuple(faults)

    def holds(self, local_part: str, domain: str) -> bool:
        """Return whether a recipient is listed; ``domain`` is the key of its domain."""
        if self._fold:
            local_part = local_part.lower()
        user, plus, _ = local_part.partition("+")
        return (
            self._has(f"{local_part}@{domain}")
            or self._has(f"{_EVERYBODY}@{domain}")
            or bool(plus and self._has(f"{user}+{_EVERYBODY}@{domain}"))
        )

    def is_due(self, now: float) -> bool:
        """Return whether the file must be checked: the last check was a second ago, and no thread reads it."""
        due = now - self._looked >= _LOOK and not self._reading.locked()
        if due:
            self._looked = now
        return due

    def refresh(self) -> None:
        """Read the file again if it has changed.  If it cannot be used, the previous content stays.  Blocking."""
        if not self._reading.acquire(blocking=False):
            return
        try:
            changed = self._read(settled=True)
        except RecipientFileError as error:
            if self._failure != str(error):
                self._failure = str(error)
                until = "the recipients that were read before stay known" if self.is_read else "none can be looked up"
                _log.error("%s: %s", error, until)
            return
        finally:
            self._reading.release()
        self._failure = ""
        for fault in self.faults if changed else ():
            _log.warning("%s: skipped", fault)

    def check(self) -> None:
        """Read the file if it has changed; the caller reports its :attr:`faults`.  Blocking.

        :raises RecipientFileError: if it cannot be used.
        """
        with self._reading:
            self._read(settled=False)

    def _has(self, entry: str) -> bool:
        assert self._contents is not None, "it was checked"
        digest = self._hash(entry.encode()).digest()
        hashes, wanted = self._contents.hashes[digest[0]], int.from_bytes(digest, "big")
        place = bisect_left(hashes, wanted)
        return place < len(hashes) and hashes[place] == wanted

    def _read(self, *, settled: bool) -> bool:
        """Read the file if it has changed, and return whether it has."""
        try:
            with open_regular(self.path) as file:
                mark = _mark(file)
                if self._contents is not None and self._contents.mark == mark:
                    return False
                if settled and 0 <= time.time() - os.fstat(file.fileno()).st_mtime < _SETTLED:
                    return False
                contents = self._parse(file, mark)
                if _mark(file) != mark and settled:
                    return False  # it is being written: the next check reads it
        except OSError as error:
            raise RecipientFileError(f'"{self.path}": {error.strerror}') from error
        if not contents.lines:
            raise RecipientFileError(f'"{self.path}": it contains no recipient')
        self._contents = contents
        return True

    def _parse(self, file: BinaryIO, mark: object) -> _Contents:
        contents = _Contents(mark)
        hashes = contents.hashes
        for number, line in enumerate(iter(partial(file.readline, _MAX_LINE + 1), b""), 1):
            if len(line) > _MAX_LINE:
                raise RecipientFileError(f'"{self.path}": line {number} is longer than {_MAX_LINE} octets')
            try:
                entry = self._entry(line.removeprefix(BOM_UTF8) if number == 1 else line)
            except ValueError as error:
                contents.skipped += 1
                if len(contents.faults) < _FAULTS:
                    contents.faults.append(f"line {number}: {error}")
                continue
            if entry:
                digest = self._hash(entry.encode()).digest()
                hashes[digest[0]].append(int.from_bytes(digest, "big"))
                contents.lines += 1
        contents.hashes = tuple(array("Q", sorted(each)) for each in hashes)
        return contents

    def _entry(self, line: bytes) -> str:
        """Return a line in the form for comparison; ``""`` for a comment or an empty line.

        :raises ValueError: if it is not a recipient.
        """
        text = line.strip()
        if not text or text.startswith(b"#"):
            return ""
        match = _LINE.fullmatch(text)
        if match is None:
            raise ValueError(_EXPECTED)
        text = match[1]
        if text.startswith(b"@"):
            return f"{_EVERYBODY}@{domain_key(text[1:].decode('utf-8'))}"
        with suppress(PathError):
            address = parse_path(b"<" + text + b">", utf8=True)
            local_part = address.local_part
            if b"*" in text.rpartition(b"@")[0] and not text.startswith(b'"'):
                user = local_part.removesuffix("+*")
                if not user or "*" in user or "+" in user or user == local_part:
                    raise ValueError(f"* is allowed only for the text after the first +: {_EXPECTED}")
                local_part = f"{user}+{_EVERYBODY}"
            return f"{local_part.lower() if self._fold else local_part}@{address.domain_key}"
        raise ValueError(_EXPECTED)


def _mark(file: BinaryIO) -> tuple[int, ...]:
    status = os.fstat(file.fileno())
    return status.st_ino, status.st_dev, status.st_mtime_ns, status.st_size
