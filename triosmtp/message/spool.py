"""A message body while it arrives, and after: in memory first, then in a file that has no name.

A :class:`Spool` takes the body in.  Its first part stays in memory; when that is full, the driver lets it be written to
an unlinked file of the spool folder, in a thread.  What is there at the end is a :class:`Body`, which can be read as
often as policy and delivery like.  Neither survives the process: a message is durable when a delivery says so, and the
kernel takes the unnamed file away with its last descriptor, however the process ends.

The default folder is ``spool`` in the state folder (:func:`triosmtp.state.state_directory`) and not the system's
temporary folder, because that is a tmpfs on many systems: bodies are written to a file so that they leave memory, and
a tmpfs is memory.

How much memory one message takes: at most ``_FLUSH_SIZE`` of chunks before the last one came, the last one (the driver
reads 256 KiB at most), and the head: together 1 MiB.  All bodies of the process may hold ``_MEMORY``; if they hold
more, each goes to its file when it has 32 KiB, and no more than that is read at once.
"""

import errno
import io
import os
import re
import tempfile
from collections.abc import AsyncGenerator, Callable
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

import trio

from triosmtp.errors import TrioSMTPError
from triosmtp.state import make_directory, state_directory

__all__ = ["KEEP_SIZE", "LIMITER", "SMALL_READ", "THREADS", "Body", "Spool", "SpoolError", "read_size", "rewrite"]

_FLUSH_SIZE = 704 * 1024  # chunks of this size in memory are due to be written
_FLUSH_COUNT = 1024  # so are so many chunks: tiny ones cost many times their size (and this is Linux's IOV_MAX)
KEEP_SIZE = 512 * 1024  # a body up to this size stays in memory: to join its chunks takes its size twice
_MEMORY = 64 * 1024 * 1024  # octets of all bodies in memory, beyond which …
_EARLY_SIZE = 32 * 1024  # … chunks of this size are due, and …
SMALL_READ: Final = 32 * 1024  # … no more than this is read at once
_HEAD_SIZE = 64 * 1024
_READ_SIZE = 256 * 1024
_NOWHERE = Path()
THREADS: Final = 32
"""Threads that read and write spool files at once."""
LIMITER = trio.CapacityLimiter(THREADS)  # its own: a disk that hangs must not take the threads of all else
_EMPTY_LINE = re.compile(rb"\n\r?\n")  # a lone LF ends a line where the configuration lets it pass


class SpoolError(TrioSMTPError):
    """The spool file could not be made, written or read.

    ``errno`` is the system's number (ENOSPC, EDQUOT, EIO, …; None where there is none), ``path`` the spool folder.
    """

    def __init__(self, reason: str, errno: int | None, path: Path) -> None:
        self.errno = errno
        self.path = path
        super().__init__(f"spool in {path}: {reason}")

    @classmethod
    def from_os_error(cls, error: OSError, path: Path) -> "SpoolError":
        """Give the spool error that ``error`` means for the spool folder ``path``."""
        return cls(str(error), error.errno, path)


class _Memory:
    """What bodies hold in the memory of this process.  Counted on the event loop alone."""

    def __init__(self) -> None:
        self.held = 0

    @property
    def full(self) -> bool:
        return self.held > _MEMORY


_memory = _Memory()


def read_size(wanted: int) -> int:
    """Return how many octets may be read at once of a message, for a reader that would read up to ``wanted``.

    What is read is held by its session until it is written, so many that read much would hold as much again.
    """
    return min(wanted, SMALL_READ) if _memory.full else wanted


class Body:
    """The body of a received message, as the client sent it (dots unstuffed): readable again and again.

    ``size`` is in octets; ``head`` holds the first 64 KiB, or all of a shorter body.  Who got the body closes it;
    readers that were opened before stay good.  Made by :meth:`Spool.finish`, or from bytes.
    """

    __slots__ = ("_counted", "_data", "_directory", "_file", "head", "size")

    def __init__(self, data: bytes) -> None:
        self._data: bytes | None = data
        self._counted = 0  # octets that are given back to _memory
        self._file: io.FileIO | None = None
        self._directory = _NOWHERE
        self.head: bytes = data[:_HEAD_SIZE]
        self.size: int = len(data)

    @classmethod
    def from_memory(cls, data: bytes) -> "Body":
        """Return a body of ``data``, which a spool has counted as memory that is held."""
        body = cls(data)
        body._counted = len(data)
        return body

    def count(self) -> None:
        """Count what is held in memory, for a body that no spool has counted."""
        if self._data is not None and not self._counted:
            self._counted = self.size
            _memory.held += self.size

    @classmethod
    def from_file(cls, file: io.FileIO, head: bytes, size: int, directory: Path) -> "Body":
        """Give the body that the first ``size`` octets of ``file`` hold, and own the file from now on."""
        body = cls(head)
        body._data = None
        body._file = file
        body._directory = directory
        body.size = size
        return body

    def open(self) -> BinaryIO:
        """Give a reader of its own, at the first octet, for a thread: it blocks.  Several may read at once.

        Reading may raise :class:`OSError`.

        :raises OSError: where there is no descriptor left.
        :raises ValueError: where the body is closed.
        """
        if self._data is not None:
            return io.BytesIO(self._data)  # shares the bytes
        if self._file is None:
            raise ValueError("body is closed")
        # Duplicated, so that the number cannot come to mean another file while a thread reads.
        return io.BufferedReader(_Reader(os.dup(self._file.fileno())), _READ_SIZE)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Read the body in pieces of up to 256 KiB, in threads where it is in a file.  Use with ``aclosing``.

        :raises SpoolError: where the file cannot be read.
        :raises ValueError: where the body is closed.
        """
        if self._data is not None:
            data = self._data
            for start in range(0, len(data), _READ_SIZE):
                yield data[start : start + _READ_SIZE]
            return
        try:
            opened = self.open()
        except OSError as error:
            raise SpoolError.from_os_error(error, self._directory) from error
        with opened as reader:
            left = self.size
            while left > 0:
                try:
                    chunk = await trio.to_thread.run_sync(reader.read, _READ_SIZE, limiter=LIMITER)
                except OSError as error:
                    raise SpoolError.from_os_error(error, self._directory) from error
                if not chunk:
                    raise SpoolError(f"the file ends {left} octets early", None, self._directory)
                yield chunk
                left -= len(chunk)

    async def part(self, start: int, size: int) -> bytes:
        """Return up to ``size`` octets from ``start`` on; in a thread if they are in a file.

        :raises SpoolError: if the file cannot be read.
        :raises ValueError: if the body is closed.
        """
        end = min(start + size, self.size)
        if self._data is not None:
            return self._data[start:end]
        if self._file is None:
            raise ValueError("body is closed")
        try:
            with _Reader(os.dup(self._file.fileno()), start) as reader:
                found = await trio.to_thread.run_sync(reader.read, end - start, limiter=LIMITER)
        except OSError as error:
            raise SpoolError.from_os_error(error, self._directory) from error
        if found is None or len(found) < end - start:
            raise SpoolError("the file ends early", None, self._directory)
        return found

    def headers(self) -> bytes:
        """Give the header block with its last line end, without the empty line that follows; at most ``head``.

        A body without an empty line is all header.
        """
        if self.head.startswith((b"\r\n", b"\n")):
            return b""
        end = _EMPTY_LINE.search(self.head)
        return self.head if end is None else self.head[: end.start() + 1]

    def close(self) -> None:
        """Give memory and file back.  May be called again."""
        self._data = None
        _memory.held -= self._counted
        self._counted = 0
        if self._file is not None:
            self._file.close()
            self._file = None


class _Reader(io.RawIOBase):
    """Reads a descriptor that it owns from an offset of its own: duplicates share the kernel's."""

    def __init__(self, fd: int, offset: int = 0) -> None:
        self._fd = fd
        self._offset = offset

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]  # typeshed: any buffer; io passes views
        count = os.preadv(self._fd, [buffer], self._offset)
        self._offset += count
        return count

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()


class Spool:
    """A message body on its way in.  ``size`` is what came so far, in octets.

    The driver's duty: ``add`` each chunk; when ``due`` then holds, ``flush`` before the next; in the end ``finish``,
    and whatever happens ``close``.  ``directory`` (default: ``spool`` in the state folder) is made, 0700, when the
    first body needs it.  ``min_free`` is how many octets are left free on its file system.
    """

    __slots__ = ("_chunks", "_closed", "_directory", "_file", "_head", "_min_free", "_written", "size")

    def __init__(self, directory: Path | None = None, min_free: int = 0) -> None:
        self._directory = directory
        self._min_free = min_free
        self._chunks: list[bytes] = []
        self._file: io.FileIO | None = None
        self._head = b""
        self._written = 0
        self._closed = False
        self.size = 0

    def add(self, chunk: bytes) -> None:
        """Take ``chunk`` into memory.

        :raises ValueError: where the spool is closed or finished: nothing is thrown away in silence.
        """
        if self._closed:
            raise ValueError("spool is closed")
        self._chunks.append(chunk)
        self.size += len(chunk)
        _memory.held += len(chunk)

    @property
    def unwritten(self) -> int:
        """Octets that are in memory alone."""
        return self.size - self._written

    @property
    def due(self) -> bool:
        """Whether memory is full, so that :meth:`flush` must come before the next chunk."""
        most = _EARLY_SIZE if _memory.full else _FLUSH_SIZE
        return self.size - self._written >= most or len(self._chunks) >= _FLUSH_COUNT

    @property
    def on_disk(self) -> bool:
        """Whether the body is in a file, or will be when :meth:`finish` is called."""
        return self._file is not None or self.size > (_EARLY_SIZE if _memory.full else KEEP_SIZE)

    async def flush(self) -> None:
        """Write what is in memory to the file, in one thread call that a cancellation waits for.

        After an error the spool is as before, and ``flush`` may be tried again or the spool closed.

        :raises SpoolError: where the system refuses (no space, quota, input/output error, …).
        """
        if self._chunks:
            before = self._written
            try:
                await trio.to_thread.run_sync(self._write, limiter=LIMITER)
            finally:
                _memory.held -= self._written - before

    async def finish(self) -> Body:
        """Give the body, which the caller closes; the spool is empty and closed afterwards.

        :raises SpoolError: as :meth:`flush`.
        :raises ValueError: where the spool is closed or finished.
        """
        if self._closed:
            raise ValueError("spool is closed")
        if self.on_disk:
            await self.flush()
        file, self._file = self._file, None
        if file is None:
            body = Body.from_memory(b"".join(self._chunks))
            self._written = self.size  # it is the body's to give back
        else:
            body = Body.from_file(file, self._head, self.size, self._folder())
        self.close()
        return body

    def close(self) -> None:
        """Throw away what is here: memory and file.  May be called again, and after :meth:`finish`."""
        self._closed = True
        self._chunks = []
        _memory.held -= self.size - self._written
        self._written = self.size
        if self._file is not None:
            self._file.close()
            self._file = None

    def _folder(self) -> Path:
        return self._directory if self._directory is not None else state_directory() / "spool"

    def _write(self) -> None:
        folder = self._folder()
        try:
            if self._file is None:
                self._file = _open_unnamed(folder)
            if self._min_free:
                _check_free(self._file.fileno(), self._min_free + self.size - self._written)
            # At an offset of ours, so that a try after a failure in the middle writes nothing twice.
            _write_at(self._file.fileno(), self._chunks, self._written)
        except OSError as error:
            raise SpoolError.from_os_error(error, folder) from error
        if len(self._head) < _HEAD_SIZE:
            self._head += _first(self._chunks, _HEAD_SIZE - len(self._head))
        self._chunks = []
        self._written = self.size


async def rewrite(body: Body, copy: Callable[[BinaryIO, BinaryIO], bool], directory: Path | None = None) -> Body:
    """Give the body that ``copy`` makes of ``body``, which is closed then; or ``body`` where ``copy`` gives False.

    ``copy`` reads one file and writes another in a thread.  The new body is where the old one was: in memory, or in a
    file of the spool folder ``directory``.

    :raises SpoolError: where the system refuses (no space, quota, input/output error, …).
    """
    folder = directory if directory is not None else state_directory() / "spool"

    def run() -> Body | None:
        with body.open() as source:
            if isinstance(source, io.BytesIO):
                memory = io.BytesIO()
                return Body(memory.getvalue()) if copy(source, memory) else None
            file = _open_unnamed(folder)
            try:
                target = io.BufferedWriter(file, _READ_SIZE)
                changed = copy(source, target)
                target.detach()
                if changed:
                    size = os.fstat(file.fileno()).st_size
                    return Body.from_file(file, os.pread(file.fileno(), _HEAD_SIZE, 0), size, folder)
            except BaseException:
                file.close()
                raise
            file.close()
            return None

    try:
        made = await trio.to_thread.run_sync(run, limiter=LIMITER)
    except OSError as error:
        body.close()
        raise SpoolError.from_os_error(error, folder) from error
    if made is None:
        return body
    body.close()
    made.count()
    return made


def _open_unnamed(folder: Path) -> io.FileIO:
    """Make a file without a name, 0600: O_TMPFILE, or where the file system has none, made and unlinked at once."""
    make_directory(folder)  # every time, so that a folder that was removed comes back
    return tempfile.TemporaryFile(mode="w+b", buffering=0, dir=folder, prefix="triosmtp-")


def _check_free(fd: int, wanted: int) -> None:
    found = os.fstatvfs(fd)
    if found.f_bavail * found.f_frsize < wanted:
        raise OSError(errno.ENOSPC, "less than Spool_Min_Free is left")


def _first(chunks: list[bytes], size: int) -> bytes:
    taken: list[bytes] = []
    for chunk in chunks:
        if size <= 0:
            break
        taken.append(chunk[:size])
        size -= len(chunk)
    return b"".join(taken)


def _write_at(fd: int, chunks: list[bytes], offset: int) -> None:
    rest = iter(chunks)
    while group := [memoryview(chunk) for chunk in islice(rest, _FLUSH_COUNT)]:
        while group:
            count = os.pwritev(fd, group, offset)
            offset += count
            while group and count >= len(group[0]):
                count -= len(group.pop(0))
            if group:
                group[0] = group[0][count:]
