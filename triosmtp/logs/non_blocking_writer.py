"""Writes log lines to a descriptor from the event loop, without ever waiting for the reader.

A pipe whose reader does not read takes 64 KiB and then blocks the writer.  So the kernel is asked before each write
whether the descriptor is writable.  If it is, lines are written at once, without a thread or a queue.  If not, they
wait in bounded memory until it is writable again.  Lines that do not fit are lost: they are counted and reported.

A write that fails, as on a full disk, loses its lines, which are counted and reported too.  It may leave a part of a
line in the file; then the next line begins on a line of its own.  (The part is not cut off, because other processes
may append to the file.)

Lines that may be late, such as that a session has ended, wait a moment for others: a system call costs as much as the
parsing of a command.

The descriptor does not become non-blocking: O_NONBLOCK would hold for every process that shares the terminal.
"""

import os
import select
import stat
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, TextIO, TypeAlias

import trio
from attrs import frozen

__all__ = ["NonBlockingWriter", "Report", "UnwrittenLines"]

_PIECE: Final = 4096
"""Octets that can be written without waiting if poll says that the descriptor is writable: PIPE_BUF, a page."""
_BACKLOG: Final = 4 * 1024 * 1024
_MOMENT: Final = 0.1
"""Seconds that a deferred line waits for others."""
_GATHERED: Final = 100
"""Deferred lines that are written at once, however little time has passed."""
_CLOSE_MS: Final = 500
"""Milliseconds for which :meth:`NonBlockingWriter.close` waits for the reader."""
_UNREAD: Final = "nobody read it"
_NEWLINE: Final = ord("\n")

Report: TypeAlias = Callable[[int, str], str]
"""Called with the number of lost lines and the reason.  It returns the line to write in their place, or ``""``."""


@frozen(slots=True)
class UnwrittenLines:
    """Lines that one writer leaves to another."""

    waiting: tuple[tuple[bytes, int], ...]
    """Octets that were not written, and the number of lines in them; below 0 if they report so many lost lines."""
    lost: int
    """Lines that were lost and not reported."""
    reason: str
    total: int
    """Lines that were lost, reported or not."""


class NonBlockingWriter:
    """A text stream for logs, on a descriptor.  It has the methods that :class:`logging.StreamHandler` needs.

    ``report`` is called after lines were lost, as soon as lines can be written again.  ``limit`` octets may wait.
    :meth:`run` writes waiting lines as soon as possible.  Without it, the next write writes them.
    """

    def __init__(self, stream: TextIO | int, report: Report, limit: int = _BACKLOG) -> None:
        self._fd = stream if isinstance(stream, int) else stream.fileno()
        self._report = report
        self._limit = limit
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)
        self._is_file = stat.S_ISREG(os.fstat(self._fd).st_mode)  # Always, because it is a file.
        self._gathered: list[bytes] = []
        self._waiting: deque[tuple[bytes, int]] = deque()  # As in UnwrittenLines.
        self._size = 0
        self._in_line = False  # Whether the last octet that was written does not end a line.
        self._failure: str | None = None  # Of the latest write.
        self._reason = ""  # Why lines are lost.
        self._lock = threading.Lock()  # Records come from worker threads, too.
        self._wanted = trio.Event()  # There is something for run() to do.
        self._loop: int | None = None  # The thread of the event loop, while run() runs.
        self._token: trio.lowlevel.TrioToken | None = None
        self._running = trio.CancelScope()
        self.lost = 0
        """Lines that were lost and not reported.  It is above 0 only while others wait, or after a failed write."""
        self.lost_total = 0
        """Lines that were lost, reported or not."""

    @property
    def trouble(self) -> str | None:
        """Why lines are lost now; None if they are not."""
        return self._reason if self.lost else None

    def write(self, text: str) -> None:
        """Write whole lines, or let them wait.  It does not block, and an error of the descriptor raises nothing."""
        data = text.encode("utf-8", "backslashreplace")
        with self._lock:
            if self._gathered or self._waiting or self.lost or self._failure is not None:
                self._gathered.append(data)
                self._write_gathered()
                return
            size = len(data)
            done = self._write_some(data) if 0 < size <= _PIECE else self._write(data)  # it is nearly always short
            if done < size:
                if done and size <= _PIECE:
                    done += self._write(data[done:])
                if done < size:
                    self._keep(data[done:], begun=done > 0)

    def defer(self, text: str) -> None:
        """Write whole lines together with the next ones, or after a moment."""
        if self._loop != threading.get_ident():
            self.write(text)  # run() does not run, so nothing would write it
            return
        with self._lock:
            self._gathered.append(text.encode("utf-8", "backslashreplace"))
            if len(self._gathered) >= _GATHERED:
                self._write_gathered()
        self._wanted.set()

    def flush(self) -> None:
        """Return at once: deferred lines may wait, and all others are written if the descriptor is writable."""

    def detach(self) -> UnwrittenLines:
        """Stop, and return the lines that are not written.  The descriptor may be closed afterwards."""
        with self._lock:
            self._write_gathered()
            if self._in_line and self._waiting:  # the rest of a line that was begun is no line elsewhere
                self._lose(self._waiting.popleft()[1], _UNREAD)
            left = UnwrittenLines(tuple(self._waiting), self.lost, self._reason, self.lost_total)
            self._forget()
        self._running.cancel()
        return left

    def adopt(self, left: UnwrittenLines) -> None:
        """Write the lines that another writer left."""
        with self._lock:
            for data, lines in left.waiting:
                self._waiting.append((data, lines))
                self._size += len(data)
            if left.lost:
                self._lose(-left.lost, left.reason)
            self.lost_total += left.total
            self._write_waiting()
            if self.lost and not self._waiting:
                self._report_lost()
                self._write_waiting()
            if self._waiting:
                self._wake()

    def close(self, *, wait: bool = True) -> None:
        """Stop.  With ``wait``, wait up to half a second for the reader.  Report those that are lost."""
        with self._lock:
            self._write_gathered()
            while wait and self._waiting and self._poll.poll(_CLOSE_MS):
                before = self._size
                self._write_waiting()
                if self._size == before:
                    break
            self._drop(_UNREAD)
            if self.lost:
                self._report(self.lost, self._reason)
            self._forget()
        self._running.cancel()

    async def run(self) -> None:
        """Write waiting lines as soon as the descriptor is writable, until cancelled or closed.  To be called once."""
        self._token = trio.lowlevel.current_trio_token()
        self._loop = threading.get_ident()
        try:
            with self._running:
                await self._write_later()
        finally:
            with self._lock:
                self._token = self._loop = None
                self._write_gathered()

    async def _write_later(self) -> None:
        while True:
            self._wanted = trio.Event()
            if not (self._waiting or self._gathered):
                await self._wanted.wait()
            await trio.sleep(_MOMENT)
            with self._lock:
                self._write_gathered()
            while self._waiting:
                try:
                    await trio.lowlevel.wait_writable(self._fd)
                except OSError:
                    break  # epoll does not take the descriptor: try again after a moment
                with self._lock:
                    self._write_waiting()

    def _write_gathered(self) -> None:
        lines, self._gathered = self._gathered, []
        if self._waiting:
            self._write_waiting()
        if not lines:
            return
        done = 0
        if not self._waiting:
            data = b"".join(lines)
            done = self._write(data)
            if done == len(data):
                if self.lost:  # writes failed before, and work again
                    self._report_lost()
                    self._write_waiting()
                return
        for line in lines:
            if done < len(line):
                self._keep(line[done:], begun=done > 0)
            done = max(0, done - len(line))

    def _keep(self, data: bytes, *, begun: bool) -> None:
        if self._failure is not None:
            self._lose(1, self._failure)
        # The rest of a line that was begun is always kept: without it, the next line would continue that one.
        elif self._waiting and not begun and (self.lost or self._size + len(data) > self._limit):
            self._lose(1, _UNREAD)
        else:
            self._waiting.append((data, 1))
            self._size += len(data)
        self._wake()

    def _wake(self) -> None:
        if self._token is not None:
            self._token.run_sync_soon(self._wanted.set, idempotent=True)

    def _write_waiting(self) -> None:
        while self._waiting:
            data, lines = self._waiting[0]
            done = self._write(data)
            self._size -= done
            if done < len(data):
                self._waiting[0] = data[done:], lines
                if self._failure is not None:
                    self._drop(self._failure)
                return
            self._waiting.popleft()
            if self.lost and not self._waiting:
                self._report_lost()

    def _report_lost(self) -> None:
        """Report the lines that were lost.  If that cannot be written either, they are lost again."""
        note = self._report(self.lost, self._reason).encode("utf-8", "backslashreplace")
        if note:
            self._waiting.append((note, -self.lost))
            self._size += len(note)
        self.lost = 0

    def _lose(self, lines: int, reason: str) -> None:
        self.lost += abs(lines)
        self.lost_total += max(0, lines)  # below 0: they were counted before
        self._reason = reason

    def _drop(self, reason: str) -> None:
        """Discard all waiting lines, and count them as lost."""
        for _, lines in self._waiting:
            self._lose(lines, reason)
        self._waiting.clear()
        self._size = 0

    def _forget(self) -> None:
        self._waiting.clear()
        self._size = self.lost = 0

    def _write(self, data: bytes) -> int:
        """Write as much as possible; return the number of octets."""
        if self._in_line and self._failure is not None and not self._write_some(b"\n"):
            return 0
        if not data:
            return 0
        size = len(data)
        done = written = self._write_some(data if self._is_file else data[:_PIECE])
        while done < size and written:
            written = self._write_some(data[done : done + _PIECE])
            done += written
        return done

    def _write_some(self, data: bytes) -> int:
        if not (self._is_file or self._poll.poll(0)):
            return 0
        try:
            written = os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._failure = error.strerror or repr(error)
            return 0
        self._failure = None
        self._in_line = data[written - 1] != _NEWLINE
        return written
