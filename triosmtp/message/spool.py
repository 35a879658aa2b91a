"""The body of a message while it is received, and afterwards: in memory first, then in a file without a name.

A :class:`Spool` receives the body.  Its first part stays in memory.  When that part is full, a thread writes it to an
unlinked file of the spool folder.  The result is a :class:`Body`, which policies and the delivery can read repeatedly.
Neither survives the process: a message is durable when its delivery has returned, and the kernel removes the unnamed
file with its last descriptor, however the process ends.

The default folder is ``spool`` in the state folder (:func:`triosmtp.filesystem.state_directory`).  It is not the
temporary folder of the system, which is a tmpfs on many systems: bodies go to a file to free memory, and a tmpfs is
memory.

One message takes at most 1 MiB of memory: ``_FLUSH_SIZE`` of chunks, the last chunk (the driver reads 256 KiB at most),
and the head.  All bodies of the process may take ``_MEMORY``.  If they take more, each body is written to its file as
soon as it has 32 KiB, and no more than that is read at once.
"""

import errno
import io
import os
import tempfile
from collections.abc import AsyncGenerator, Callable
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

import trio

from triosmtp.errors import TrioSMTPError
from triosmtp.filesystem import make_directory, state_directory

__all__ = [
    "KEEP_SIZE",
    "SMALL_READ",
    "THREADS",
    "Body",
    "Spool",
    "SpoolError",
    "derive",
    "hold",
    "read_size",
    "rewrite",
    "spool_limiter",
]

_FLUSH_SIZE: Final = 704 * 1024
"""Octets in memory that are due to be written."""
_FLUSH_COUNT: Final = 1024
"""Chunks that are due to be written: small ones take many times their size.  It is IOV_MAX of Linux."""
KEEP_SIZE = 512 * 1024
"""Octets of a body that stays in memory: to join its chunks takes its size twice."""
_MEMORY = 64 * 1024 * 1024
"""Octets of all bodies in memory, above which the next two limits hold."""
_SMALL_SIZE: Final = 32 * 1024
"""Octets in memory that are due to be written then."""
SMALL_READ: Final = 32 * 1024
"""Octets that are read at once then."""
_HEAD_SIZE = 64 * 1024
_READ_SIZE = 256 * 1024
_NO_DIRECTORY = Path()
THREADS: Final = 32
"""The number of threads that read and write spool files at the same time."""
_LINE_ENDS: Final = (b"\r\n", b"\n")


@cache
def spool_limiter() -> "trio.CapacityLimiter":  # made at its first use, as `triosmtp check` does not load trio
    """Return the limiter of spool files: a disk that hangs must not use up the threads of others."""
    return trio.CapacityLimiter(THREADS)


class SpoolError(TrioSMTPError):
    """The spool file cannot be made, written or read.

    ``errno`` is the number of the system error (ENOSPC, EDQUOT, EIO, …) or None; ``path`` is the spool folder.
    """

    def __init__(self, reason: str, errno: int | None, path: Path) -> None:
        self.errno = errno
        self.path = path
        super().__init__(f"spool in {path}: {reason}")

    @classmethod
    def from_os_error(cls, error: OSError, path: Path) -> "SpoolError":
        """Return the spool error for ``error`` in the spool folder ``path``."""
        return cls(str(error), error.errno, path)


class _Memory:
    """The octets of bodies in the memory of this process.  They are counted on the event loop only."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = 0


_memory = _Memory()


def read_size(wanted: int) -> int:
    """Return how many octets of a message may be read at once: ``wanted``, or fewer if much memory is in use.

    A session holds the octets that it has read until they are written.
    """
    return min(wanted, SMALL_READ) if _memory.held > _MEMORY else wanted


class Body:
    """The body of a received message as the client sent it, without dot-stuffing.  It can be read repeatedly.

    ``size`` is in octets; ``head`` holds the first 64 KiB, or all of a shorter body.  The owner of the body closes it;
    readers that were opened before stay usable.  It is made by a :class:`Spool`, or from bytes.
    """

    # Without __slots__: most messages change none of these defaults.
    _file: io.FileIO | None = None
    _directory = _NO_DIRECTORY

    def __init__(self, data: bytes, counted: int = 0) -> None:
        self._data: bytes | None = data
        self._counted = counted  # octets that close() subtracts from _memory
        self.head: bytes = data[:_HEAD_SIZE]
        self.size: int = len(data)

    @property
    def in_memory(self) -> bool:
        """Whether all octets are in memory."""
        return self._data is not None

    def count(self) -> None:
        """Count the memory of a body that no spool has counted."""
        if self._data is not None and not self._counted:
            self._counted = self.size
            _memory.held += self.size

    @classmethod
    def from_file(cls, file: io.FileIO, head: bytes, size: int, directory: Path) -> "Body":
        """Return the body in the first ``size`` octets of ``file``, and own the file from now on."""
        body = cls(head)
        body._data = None
        body._file = file
        body._directory = directory
        body.size = size
        return body

    def open(self) -> BinaryIO:
        """Return a new reader at the first octet.  It blocks, so use it in a thread.  Several may read at once.

        Reading may raise :class:`OSError`.

        :raises OSError: if no descriptor is left.
        :raises ValueError: if the body is closed.
        """
        if self._data is not None:
            return io.BytesIO(self._data)  # without a copy
        if self._file is None:
            raise ValueError("body is closed")
        # Duplicated, so that its number cannot become that of another file while a thread reads.
        return io.BufferedReader(_Reader(os.dup(self._file.fileno())), _READ_SIZE)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Read the body in pieces of up to 256 KiB, in threads if it is in a file.  Use it with ``aclosing``.

        :raises SpoolError: if the file cannot be read.
        :raises ValueError: if the body is closed.
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
                    chunk = await trio.to_thread.run_sync(reader.read, _READ_SIZE, limiter=spool_limiter())
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
                found = await trio.to_thread.run_sync(reader.read, end - start, limiter=spool_limiter())
        except OSError as error:
            raise SpoolError.from_os_error(error, self._directory) from error
        if found is None or len(found) < end - start:
            raise SpoolError("the file ends early", None, self._directory)
        return found

    def headers(self) -> bytes:
        """Return the header section with its last line end, without the empty line that follows; at most ``head``.

        A body without an empty line is all header.
        """
        head = self.head
        if head.startswith(_LINE_ENDS):
            return b""
        end = head.find(b"\n\r\n")
        lone = head.find(b"\n\n", 0, end + 1 or len(head))  # a lone LF ends a line if the configuration allows it
        if lone >= 0:
            end = lone
        return head if end < 0 else head[: end + 1]

    def close(self) -> None:
        """Release memory and file.  May be called again."""
        self._data = None
        _memory.held -= self._counted
        self._counted = 0
        if self._file is not None:
            self._file.close()
            self._file = None


class _Reader(io.RawIOBase):
    """Reads a descriptor that it owns, with an offset of its own: duplicates share the offset of the kernel."""

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
    """A message body that is being received.  ``size`` is the number of octets so far.

    The session calls :meth:`add` with each chunk.  If it returns True, the session calls :meth:`flush` before the next.
    At the end it calls :meth:`finish_in_memory` or :meth:`finish`; and :meth:`close` in any case.  ``directory``
    (default: ``spool`` in the state folder) is made, 0700, for the first body that needs it.  ``min_free`` octets are
    left free on its file system.
    """

    # Without __slots__: most messages change few of these defaults.
    size = 0
    _file: io.FileIO | None = None
    _head = b""
    _written = 0  # octets that are not counted in _memory any more
    _closed = False

    def __init__(self, directory: Path | None = None, min_free: int = 0) -> None:
        self._directory = directory
        self._min_free = min_free
        self._chunks: list[bytes] = []

    def add(self, chunk: bytes) -> bool:
        """Take ``chunk`` into memory; return whether memory is full, and :meth:`flush` must come before the next chunk.

        :raises ValueError: if the spool is closed or finished: nothing is discarded silently.
        """
        if self._closed:
            raise ValueError("spool is closed")
        chunks, added = self._chunks, len(chunk)
        chunks.append(chunk)
        _memory.held += added
        self.size = size = self.size + added
        if size - self._written < _SMALL_SIZE and len(chunks) < _FLUSH_COUNT:
            return False
        return self.due

    @property
    def unwritten(self) -> int:
        """The octets that are only in memory."""
        return self.size - self._written

    @property
    def due(self) -> bool:
        """Whether memory is full, so that :meth:`flush` must come before the next chunk."""
        most = _SMALL_SIZE if _memory.held > _MEMORY else _FLUSH_SIZE
        return self.size - self._written >= most or len(self._chunks) >= _FLUSH_COUNT

    @property
    def on_disk(self) -> bool:
        """Whether the body is in a file, or will be when :meth:`finish` is called."""
        if self.size <= _SMALL_SIZE:
            return self._file is not None
        return self._file is not None or self.size > KEEP_SIZE or _memory.held > _MEMORY

    async def flush(self) -> None:
        """Write what is in memory to the file, in one call in a thread.  A cancellation waits for the thread.

        After an error the spool is as before: ``flush`` may be called again, or ``close``.

        :raises SpoolError: if the file cannot be written (no space, quota, input/output error, …).
        """
        if self._chunks:
            before = self._written
            try:
                await trio.to_thread.run_sync(self._write, limiter=spool_limiter())
            finally:
                _memory.held -= self._written - before

    def finish_in_memory(self) -> Body | None:
        """Return the body and close the spool; or return None if the body belongs in a file, see :meth:`finish`.

        The caller closes the body.

        :raises ValueError: if the spool is closed or finished.
        """
        if self._closed:
            raise ValueError("spool is closed")
        size = self.size
        if self._file is not None or (size > _SMALL_SIZE and self.on_disk):
            return None
        body = Body(b"".join(self._chunks), size)
        self._closed = True
        self._chunks = []
        self._written = size  # close() of the body subtracts it
        return body

    async def finish(self) -> Body:
        """Return the body, after it was written if it belongs in a file, and close the spool.

        The caller closes the body.

        :raises SpoolError: as :meth:`flush`.
        :raises ValueError: if the spool is closed or finished.
        """
        body = self.finish_in_memory()
        if body is None:
            await self.flush()
            file, self._file = self._file, None
            assert file is not None, "it was written"
            body = Body.from_file(file, self._head, self.size, self._folder())
            self.close()
        return body

    def close(self) -> None:
        """Discard memory and file.  May be called again, and after :meth:`finish`."""
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
            # At an explicit offset: an attempt after a partial write writes nothing twice.
            _write_at(self._file.fileno(), self._chunks, self._written)
        except OSError as error:
            raise SpoolError.from_os_error(error, folder) from error
        if len(self._head) < _HEAD_SIZE:
            self._head += _first(self._chunks, _HEAD_SIZE - len(self._head))
        self._chunks = []
        self._written = self.size


def hold(data: bytes) -> Body | None:
    """Return the body of a message that arrived whole; None if a :class:`Spool` must take it.

    The caller closes the body.
    """
    size = len(data)
    if size > _SMALL_SIZE:
        return None
    _memory.held += size
    return Body(data, size)


async def rewrite(body: Body, copy: Callable[[BinaryIO, BinaryIO], bool], directory: Path | None = None) -> Body:
    """Return the body that ``copy`` makes of ``body``, and close ``body``.

    If ``copy`` returns False, return ``body`` unchanged.  ``copy`` reads one file and writes another in a thread.  The
    new body is where the old one is: in memory, or in a file of the spool folder ``directory``.

    :raises SpoolError: if the file cannot be written (no space, quota, input/output error, …).
    """
    try:
        made = await _in_thread(partial(_copied, body, copy), directory)
    except SpoolError:
        body.close()
        raise
    if made is None:
        return body
    body.close()
    made.count()
    return made


async def derive(
    body: Body,
    copy: Callable[[BinaryIO, BinaryIO], None],
    directory: Path | None = None,
    *,
    min_free: int = 0,
    on_disk: bool = False,
) -> Body:
    """Return the body that ``copy`` makes of ``body``, which stays as it is; the caller closes both.

    The new body is in a file if ``body`` is, or if ``on_disk`` is set.  ``min_free`` octets are left free beside a
    second ``body``.  The other arguments are those of :func:`rewrite`.

    :raises SpoolError: if a file cannot be read or written.
    """

    def whole(source: BinaryIO, target: BinaryIO) -> bool:
        copy(source, target)
        return True

    needed = min_free + body.size if min_free else 0
    made = await _in_thread(partial(_copied, body, whole, on_disk=on_disk, needed=needed), directory)
    assert made is not None, "it was copied"
    made.count()
    return made


async def _in_thread(make: Callable[[Path], Body | None], directory: Path | None) -> Body | None:
    folder = directory if directory is not None else state_directory() / "spool"
    try:
        return await trio.to_thread.run_sync(make, folder, limiter=spool_limiter())
    except OSError as error:
        raise SpoolError.from_os_error(error, folder) from error


def _copied(
    body: Body, copy: Callable[[BinaryIO, BinaryIO], bool], folder: Path, *, on_disk: bool = False, needed: int = 0
) -> Body | None:
    """Return what ``copy`` makes of ``body``; None if it returns False.  It blocks."""
    with body.open() as source:
        if body.in_memory and not on_disk:
            memory = io.BytesIO()
            return Body(memory.getvalue()) if copy(source, memory) else None
        file = _open_unnamed(folder)
        try:
            if needed:
                _check_free(file.fileno(), needed)
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


def _open_unnamed(folder: Path) -> io.FileIO:
    """Make a file without a name, 0600: with O_TMPFILE, or, if the file system has none, unlinked at once."""
    make_directory(folder)  # each time, because the folder may have been removed
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
