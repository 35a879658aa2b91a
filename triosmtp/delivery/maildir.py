"""Delivery into a Maildir: one file per message, on disk before the client is told so.

The order is what makes it durable and whole.  The message is written to ``tmp/``, a folder that no reader looks into,
and synced; then it is renamed into ``new/``, which either happens or does not; then ``new/`` is synced, so that the
name outlives a power failure, too.  Only then does ``deliver`` return.  ``tmp/`` is not synced: all it could bring back
after a crash is the old name of a message, or one that was not acknowledged, and old names are cleaned away.

After any failure nothing of the message is left, and the peer is told to come back.  There is one exception: where the
sync of ``new/`` fails and a reader has taken the message in that moment, it stays, and the client's next try makes it
two.  A message twice is the lesser evil.

Each message syncs the folder itself: a sync that concurrent messages share was measured and saves nothing, because the
file system's journal already commits them together.

Readers expect local line ends, so CRLF becomes LF.  A CR that stands alone is kept.
"""

import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO

import trio

from triosmtp.delivery.interface import Delivery, DeliveryError
from triosmtp.message import Message
from triosmtp.message.trace import address_field, separator
from triosmtp.state import make_directory

__all__ = ["Maildir"]

_log = logging.getLogger("triosmtp.delivery")

_STALE = 36 * 3600.0  # seconds after which a file in tmp/ is nobody's: the Maildir specification's figure
_READ_SIZE = 256 * 1024


class Maildir(Delivery):
    """Delivers into the Maildir at ``path``; what is missing of it is made with the first message, 0700.

    Nothing leaves from here, so REQUIRETLS is honoured by storing.  DSN is not: nobody would send the reports.  Nor is
    BINARYMIME: the line ends of a message become local ones.

    Files are 0600.  At most ``concurrency`` messages are written at once, each in a thread of its own: threads of
    this delivery's, so that a slow disk holds up nothing else.  A cancelled ``deliver`` waits for its thread.
    """

    honours = frozenset({"REQUIRETLS"})

    def __init__(self, path: Path, *, concurrency: int = 32) -> None:
        self.path = path
        self._limiter = trio.CapacityLimiter(concurrency)
        self._counter = count(1)
        self._host = _escape(socket.gethostname())
        self._prepared = False
        self._failing = False

    async def deliver(self, message: Message) -> None:
        """Write ``message`` durably.

        :raises DeliveryError: with ``storage`` set, where the system refuses (no space, read-only, failed sync, …).
        """
        try:
            await trio.to_thread.run_sync(self._store, message, limiter=self._limiter)
        except OSError as error:
            self._prepared = False
            self._failing = True
            _log.error("%s: message %s NOT stored, the client is told to come back: %s", self, message.id, error)
            raise DeliveryError(f"{self}: {error}", storage=True) from error
        if self._failing:
            self._failing = False
            _log.warning("%s: messages are stored again", self)

    def __str__(self) -> str:
        return f"maildir:{self.path}"

    def _store(self, message: Message) -> None:
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
            self._publish(temporary, f"{name},S={size}")
        except BaseException:
            with suppress(FileNotFoundError):
                temporary.unlink()
            raise

    def _publish(self, temporary: Path, name: str) -> None:
        new = self.path / "new"
        folder = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            temporary.rename(new / name)
            try:
                os.fsync(folder)
            except OSError:
                with suppress(OSError):  # the sync's failure is the one to tell
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
                with suppress(FileNotFoundError):  # another process cleans, too
                    if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < oldest:
                        Path(entry.path).unlink()
        self._prepared = True

    def _unique_name(self) -> str:
        """The specification's ``time.MusecPpidQcounter.host``, and R: hosts that share a folder may share a name."""
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        unique = f"M{nanoseconds // 1000:06d}P{os.getpid()}Q{next(self._counter)}R{secrets.token_hex(4)}"
        return f"{seconds}.{unique}.{self._host}"


def _escape(host: str) -> str:
    """The characters of a host name that a Maildir name cannot hold, in octal, as the specification has it."""
    escaped = "".join(c if c.isascii() and (c.isalnum() or c in ".-_") else f"\\{ord(c):03o}" for c in host)
    return escaped[:128] or "localhost"


def _write(fd: int, message: Message) -> int:
    """Write ``message`` as a Maildir holds it and give its size."""
    start = _header(message) + separator(message.body.head)
    size = 0
    with message.body.open() as body:
        for part in _local_line_ends(start, body):
            size += len(part)
            rest = memoryview(part)
            while rest:
                rest = rest[os.write(fd, rest) :]
    return size


def _header(message: Message) -> bytes:
    envelope = message.envelope
    fields = [address_field("Return-Path", f"<{envelope.sender}>" if envelope.sender else "<>")]
    fields += [address_field("Delivered-To", str(recipient)) for recipient in envelope.recipients]
    fields.append(message.trace)
    return b"".join(fields)


def _local_line_ends(start: bytes, body: BinaryIO) -> Iterator[bytes]:
    """Give ``start`` and ``body`` in parts, CRLF as LF; a CR at the end of a part waits for what follows it."""
    part = start + body.read(_READ_SIZE)
    while part:
        following = body.read(_READ_SIZE)
        if following and part.endswith(b"\r"):
            part, following = part[:-1], b"\r" + following
        yield part.replace(b"\r\n", b"\n")
        part = following
