"""Where log lines leave the process: a descriptor, written from the event loop, which never waits for its reader.

A pipe whose reader sleeps takes 64 KiB and then blocks the writer.  So before each write the kernel is asked whether
there is room.  Where there is, as nearly always, lines are written: no thread, no queue.  Where there is none, they
wait in bounded memory until there is room again; what does not fit is counted, and told.

A write that fails, as on a full disk, loses its lines: they are counted and told as well.  It may leave half a line
behind, and then what comes next begins on a line of its own.  (To cut the half off is no way: others may append, too.)

What need not be there at once, such as that a session has ended, may wait for a moment and for more like it: a system
call costs as much as parsing a command.

The descriptor itself is left as it is: O_NONBLOCK would hold for every process that shares the terminal.
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

__all__ = ["Backlog", "Outlet", "Report"]

_PIECE: Final = 4096
"""Octets that can be written without waiting where poll says that there is room: PIPE_BUF, a page."""
_BACKLOG: Final = 4 * 1024 * 1024
_MOMENT: Final = 0.01
"""Seconds that a deferred line waits for others."""
_GATHERED: Final = 100
"""Lines that are gathered before they are written, however little time has passed."""
_LAST_WORDS: Final = 500
"""Milliseconds that what waits at the process's end is given."""
_UNREAD: Final = "nobody read it"

Report: TypeAlias = Callable[[int, str], str]
"""Tells how many lines were lost, and why.  What it gives is written in their place: a whole line, or nothing."""


@frozen(slots=True)
class Backlog:
    """What an outlet leaves to another one."""

    waiting: tuple[tuple[bytes, int], ...]
    """What was not written, and of how many lines the loss would be."""
    lost: int
    reason: str


class Outlet:
    """A text stream for logs, on a descriptor.  It has what :class:`logging.StreamHandler` needs.

    ``report`` is called when lines were lost and it goes on; ``limit`` is how many octets may wait.  :meth:`run` writes
    what waits; without it, the next write does.
    """

    def __init__(self, stream: TextIO | int, report: Report, limit: int = _BACKLOG) -> None:
        self._fd = stream if isinstance(stream, int) else stream.fileno()
        self._report = report
        self._limit = limit
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)
        self._has_room = stat.S_ISREG(os.fstat(self._fd).st_mode)  # always: it is a file
        self._gathered: list[bytes] = []
        self._waiting: deque[tuple[bytes, int]] = deque()  # what, and of how many lines the loss would be
        self._size = 0
        self._in_line = False  # the last octet that was written is no line's end
        self._failure: str | None = None  # of the latest write
        self._reason = ""  # why lines are lost
        self._lock = threading.Lock()  # records come from worker threads, too
        self._wanted = trio.Event()  # there is something for run() to do
        self._loop: int | None = None  # the thread of the event loop, while run() runs
        self._token: trio.lowlevel.TrioToken | None = None
        self._running = trio.CancelScope()
        self.lost = 0
        """Lines that were lost, and not told yet.  There are some only while others wait, or since a write failed."""

    @property
    def trouble(self) -> str | None:
        """Why lines are lost now; None where they are not."""
        return self._reason if self.lost else None

    def write(self, text: str) -> None:
        """Write whole lines, or let them wait.  Never blocks, and never raises for what the descriptor does."""
        with self._lock:
            self._gathered.append(text.encode("utf-8", "backslashreplace"))
            self._write_gathered()

    def defer(self, text: str) -> None:
        """Write whole lines with what is written next, or after a moment."""
        if self._loop != threading.get_ident():
            self.write(text)  # nobody comes back to it
            return
        with self._lock:
            self._gathered.append(text.encode("utf-8", "backslashreplace"))
            if len(self._gathered) >= _GATHERED:
                self._write_gathered()
        self._wanted.set()

    def flush(self) -> None:
        """Do nothing: what is deferred can wait, and all else is written already where there is room."""

    def surrender(self) -> Backlog:
        """End, and give what is not written.  The descriptor may then be closed."""
        with self._lock:
            self._write_gathered()
            if self._in_line and self._waiting:  # the rest of a line that was begun: nowhere else it is one
                self._lose(self._waiting.popleft()[1], _UNREAD)
            left = Backlog(tuple(self._waiting), self.lost, self._reason)
            self._forget()
        self._running.cancel()
        return left

    def take_over(self, left: Backlog) -> None:
        """Go on with what another outlet did not write."""
        with self._lock:
            for data, lines in left.waiting:
                self._waiting.append((data, lines))
                self._size += len(data)
            if left.lost:
                self._lose(left.lost, left.reason)
            self._write_waiting()
            if self.lost and not self._waiting:
                self._tell()
                self._write_waiting()
            if self._waiting:
                self._wake()

    def close(self, *, patient: bool = True) -> None:
        """End.  Where ``patient``, what waits is given a last moment; what is lost with that is told."""
        with self._lock:
            self._write_gathered()
            while patient and self._waiting and self._poll.poll(_LAST_WORDS):
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
        """Write what waits as soon as there is room, until cancelled or closed.  To be called once."""
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
                    break  # nothing that epoll takes: it is asked again after a moment
                with self._lock:
                    self._write_waiting()

    def _write_gathered(self) -> None:
        lines, self._gathered = self._gathered, []
        self._write_waiting()
        if not lines:
            return
        done = 0
        if not self._waiting:
            data = b"".join(lines)
            done = self._write(data)
            if done == len(data):
                if self.lost:  # it failed before, and works again
                    self._tell()
                    self._write_waiting()
                return
        for line in lines:
            if done < len(line):
                self._keep(line[done:], begun=done > 0)
            done = max(0, done - len(line))

    def _keep(self, data: bytes, *, begun: bool) -> None:
        if self._failure is not None:
            self._lose(1, self._failure)
        # The rest of a line that was begun is kept whatever comes: half a line would swallow the next.
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
                self._tell()

    def _tell(self) -> None:
        """Report what was lost.  Where that fails as well, so much is lost again."""
        note = self._report(self.lost, self._reason).encode("utf-8", "backslashreplace")
        if note:
            self._waiting.append((note, self.lost))
            self._size += len(note)
        self.lost = 0

    def _lose(self, lines: int, reason: str) -> None:
        self.lost += lines
        self._reason = reason

    def _drop(self, reason: str) -> None:
        """Lose all that waits."""
        if self._waiting:
            self._lose(sum(lines for _, lines in self._waiting), reason)
            self._waiting.clear()
            self._size = 0

    def _forget(self) -> None:
        self._waiting.clear()
        self._size = self.lost = 0

    def _write(self, data: bytes) -> int:
        """Write as much as there is room for; give how much that was."""
        if self._in_line and self._failure is not None and not self._write_some(b"\n"):
            return 0
        done = 0
        while done < len(data):
            written = self._write_some(data if self._has_room and not done else data[done : done + _PIECE])
            if not written:
                break
            done += written
        return done

    def _write_some(self, data: bytes) -> int:
        if not (self._has_room or self._poll.poll(0)):
            return 0
        try:
            written = os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._failure = error.strerror or repr(error)
            return 0
        self._failure = None
        self._in_line = data[written - 1] != ord("\n")
        return written
