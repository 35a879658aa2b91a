"""Delivery into a Maildir: one file for each message, which is on disk before the client gets 250.

The order of the steps makes a message durable and complete.  It is written to ``tmp/``, which no reader looks into, and
synced.  Then it is renamed into ``new/``, which is atomic.  Then ``new/`` is synced, so that the name survives a power
failure too.  Only then does ``deliver`` return.  ``tmp/`` is not synced: after a crash it can only hold the old name of
a message, or a message that was not acknowledged, and old names are removed.

After a failure nothing is left of the message, and the client gets a temporary error.  There is one exception: if the
sync of ``new/`` fails after a reader has taken the message, the message stays, and the next attempt of the client
delivers it again.  A duplicate is better than a loss.

Each message syncs the folder itself.  A sync that concurrent messages share was measured and saves nothing, because the
journal of the file system already commits them together.

Readers expect local line ends, so CRLF becomes LF.  A CR without LF is kept.
"""

import hashlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import trio

from triosmtp.delivery.delivery import Delivery, DeliveryError
from triosmtp.filesystem import make_directory
from triosmtp.message.trace import address_field, separator

if TYPE_CHECKING:  # `triosmtp check` makes no message
    from triosmtp.message import Message

__all__ = ["Maildir"]

_log = logging.getLogger("triosmtp.delivery")

_STALE = 36 * 3600.0  # seconds after which a file in tmp/ is abandoned, by the Maildir specification
_READ_SIZE = 256 * 1024


class Maildir(Delivery):
    """Delivers into the Maildir at ``path``.  The first message makes missing folders, 0700.

    No message is relayed from here, so to store it honours REQUIRETLS.  DSN is not honoured, because nothing sends the
    reports; nor is BINARYMIME, because line ends become local ones.

    Files have mode 0600.  At most ``concurrency`` messages are written at the same time, each in a thread of this
    delivery, so that a slow disk delays nothing else.  A cancelled ``deliver`` waits for its thread.

    With ``by_id`` a file is named after the id of the message and its recipients.  So a message that is delivered a
    second time is there once, as long as no reader has removed it.
    """

    honours = frozenset({"REQUIRETLS"})

    def __init__(self, path: Path, *, concurrency: int = 32, by_id: bool = False) -> None:
        self.path = path
        self._by_id = by_id
        self._concurrency = concurrency
        self._counter = count(1)
        self._host = _escape(socket.gethostname())
        self._prepared = False
        self._failing = False

    @cached_property
    def _limiter(self) -> "trio.CapacityLimiter":  # quoted, as `triosmtp check` does not load trio
        return trio.CapacityLimiter(self._concurrency)

    async def deliver(self, message: "Message") -> None:
        """Write ``message`` durably.

        :raises DeliveryError: with ``storage`` set, if it cannot be stored (no space, read-only, failed sync, …).
        """
        try:
            await trio.to_thread.run_sync(self._store, message, limiter=self._limiter)
        except OSError as error:
            self._prepared = False
            self._failing = True
            _log.error("%s: message %s NOT stored, replied 452: %s", self, message.id, error)
            raise DeliveryError(f"{self}: {error}", storage=True) from error
        if self._failing:
            self._failing = False
            _log.warning("%s: messages are stored again", self)

    def __str__(self) -> str:
        return f"maildir:{self.path}"

    def _store(self, message: "Message") -> None:
        if not self._prepared:
            self._prepare()
        name = self._unique_name()
        temporary = self.path / "tmp" / name
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                size = _write(fd, message)
                os.fsync(fd)
            finally:
                os.close(fd)
            if self._by_id:
                name = _name_by_id(message)
                if self._was_read(f"{name},S={size}"):
                    temporary.unlink()
                    return
            self._publish(temporary, f"{name},S={size}")
        except BaseException:
            with suppress(FileNotFoundError):
                temporary.unlink()
            raise

    def _was_read(self, name: str) -> bool:
        """Return whether a reader has moved the file with this name to ``cur/``."""
        with os.scandir(self.path / "cur") as entries:
            return any(entry.name.partition(":")[0] == name for entry in entries)

    def _publish(self, temporary: Path, name: str) -> None:
        new = self.path / "new"
        folder = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            temporary.rename(new / name)
            try:
                os.fsync(folder)
            except OSError:
                with suppress(OSError):  # the error of the sync is the one to report
                    (new / name).unlink()
                raise
        finally:
            os.close(folder)

    def _prepare(self) -> None:
        for name in ("tmp", "new", "cur"):
            make_directory(self.path / name)
        oldest = time.time() - _STALE
        with os.scandir(self.path / "tmp") as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # another process may clean too
                    if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < oldest:
                        Path(entry.path).unlink()
        self._prepared = True

    def _unique_name(self) -> str:
        """Return ``time.MusecPpidQcounter.host`` of the specification, with R: hosts may share a folder and a name."""
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        unique = f"M{nanoseconds // 1000:06d}P{os.getpid()}Q{next(self._counter)}R{secrets.token_hex(4)}"
        return f"{seconds}.{unique}.{self._host}"


def _escape(host: str) -> str:
    """Return a host name with the characters that a Maildir name cannot have in octal, as in the specification."""
    escaped = "".join(c if c.isascii() and (c.isalnum() or c in ".-_") else f"\\{ord(c):03o}" for c in host)
    return escaped[:128] or "localhost"


def _write(fd: int, message: "Message") -> int:
    """Write ``message`` in the form of a Maildir, and return its size."""
    start = _header(message) + separator(message.body.head)
    size = 0
    with message.body.open() as body:
        for part in _local_line_ends(start, body):
            size += len(part)
            rest = memoryview(part)
            while rest:
                rest = rest[os.write(fd, rest) :]
    return size


def _header(message: "Message") -> bytes:
    envelope = message.envelope
    fields = [address_field("Return-Path", f"<{envelope.sender}>" if envelope.sender else "<>")]
    fields += [address_field("Delivered-To", str(recipient)) for recipient in envelope.recipients]
    fields.append(message.trace)
    return b"".join(fields)


def _local_line_ends(start: bytes, body: BinaryIO) -> Iterator[bytes]:
    """Yield ``start`` and ``body`` in parts, with LF for CRLF; a CR at the end of a part belongs to the next one."""
    part = start + body.read(_READ_SIZE)
    while part:
        following = body.read(_READ_SIZE)
        if following and part.endswith(b"\r"):
            part, following = part[:-1], b"\r" + following
        yield part.replace(b"\r\n", b"\n")
        part = following


def _name_by_id(message: "Message") -> str:
    """Return the name of a file that is the same for each delivery of ``message`` to the same recipients."""
    recipients = "\0".join(str(each) for each in message.envelope.recipients)
    digest = hashlib.sha256(f"{message.id}\0{recipients}".encode("utf-8", "surrogateescape")).hexdigest()
    return f"{int(message.received.timestamp())}.I{digest[:40]}.triosmtp"
