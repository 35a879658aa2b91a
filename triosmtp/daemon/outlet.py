"""Where log lines leave the process: stderr, written from the event loop, which must never wait for whoever reads it.

A pipe whose reader sleeps takes 64 KiB and then blocks the writer.  So before each write the kernel is asked whether
there is room.  Where there is, as nearly always, lines are written: no thread, no queue.  Where there is none, they
wait in bounded memory until there is room again; what does not fit is counted, and told.

What need not be there at once, such as that a session has ended, may wait for a moment and for more like it: a system
call costs as much as parsing a command.

The descriptor itself is left as it is: O_NONBLOCK would hold for every process that shares the terminal.
"""

import os
import select
import stat
import threading
from collections import deque
from typing import Final, TextIO

import trio

__all__ = ["Outlet"]

_PIECE: Final = 4096
"""Octets that can be written without waiting where poll says that there is room: PIPE_BUF, a page."""
_BACKLOG: Final = 4 * 1024 * 1024
_MOMENT: Final = 0.01
"""Seconds that a deferred line waits for others."""
_GATHERED: Final = 100
"""Lines that are gathered before they are written, however little time has passed."""
_LAST_WORDS: Final = 500
"""Milliseconds that what waits at the process's end is given."""


class Outlet:
    """A text stream for logs, on a descriptor.  It has what :class:`logging.StreamHandler` needs.

    ``limit`` is how many octets may wait.  :meth:`run` writes what waits; without it, the next write does.
    """

    def __init__(self, stream: TextIO | int, limit: int = _BACKLOG) -> None:
        self._fd = stream if isinstance(stream, int) else stream.fileno()
        self._limit = limit
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)
        self._has_room = stat.S_ISREG(os.fstat(self._fd).st_mode)  # always: it is a file
        self._gathered: list[bytes] = []
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._lost = 0
        self._lock = threading.Lock()  # records come from worker threads, too
        self._wanted = trio.Event()  # there is something for run() to do
        self._loop: int | None = None  # the thread of the event loop, while run() runs
        self._token: trio.lowlevel.TrioToken | None = None
        self.failure: OSError | None = None
        """Why the latest write failed; None where it did not."""
        self.lost = 0
        """Lines that found no room, since the beginning."""

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

    def close(self) -> None:
        """Give what waits a last moment."""
        with self._lock:
            self._write_gathered()
            while (self._waiting or self._lost) and self._poll.poll(_LAST_WORDS):
                before = self._size
                self._write_waiting()
                if self._size == before:
                    return

    async def run(self) -> None:
        """Write what waits as soon as there is room, until cancelled."""
        self._token = trio.lowlevel.current_trio_token()
        self._loop = threading.get_ident()
        try:
            while True:
                self._wanted = trio.Event()
                if not (self._waiting or self._lost or self._gathered):
                    await self._wanted.wait()
                await trio.sleep(_MOMENT)
                with self._lock:
                    self._write_gathered()
                while self._waiting or self._lost:
                    try:
                        await trio.lowlevel.wait_writable(self._fd)
                    except OSError:
                        break  # nothing that epoll takes: it is asked again after a moment
                    with self._lock:
                        self._write_waiting()
        finally:
            with self._lock:
                self._token = self._loop = None
                self._write_gathered()

    def _write_gathered(self) -> None:
        lines, self._gathered = self._gathered, []
        if self._waiting or self._lost:
            self._write_waiting()
        done = 0
        if not (self._waiting or self._lost):
            data = b"".join(lines)
            done = self._write(data)
            if done == len(data):
                return
        for line in lines:
            if done < len(line):
                self._keep(line[done:], begun=done > 0)
            done = max(0, done - len(line))

    def _keep(self, data: bytes, *, begun: bool = False) -> None:
        if self._token is not None:
            self._token.run_sync_soon(self._wanted.set, idempotent=True)
        # The rest of a line that was begun is kept whatever comes: half a line would swallow the next.
        if not begun and (self._lost or self._size + len(data) > self._limit):
            self._lost += 1
            self.lost += 1
            return
        self._waiting.append(data)
        self._size += len(data)

    def _write_waiting(self) -> None:
        while self._waiting:
            data = self._waiting[0]
            done = self._write(data)
            self._size -= done
            if done < len(data):
                self._waiting[0] = data[done:]
                return
            self._waiting.popleft()
        if self._lost:
            note = f"WARNING the log was not read: {self._lost} lines were lost\n".encode()
            if self._write(note) == len(note):
                self._lost = 0

    def _write(self, data: bytes) -> int:
        """Write as much as there is room for; give how much that was."""
        done = 0
        while done < len(data):
            if not (self._has_room or self._poll.poll(0)):
                return done
            try:
                done += os.write(self._fd, data if self._has_room and not done else data[done : done + _PIECE])
            except BlockingIOError:
                return done
            except OSError as error:
                self.failure = error
                return len(data)  # nobody is there to read it, nor will be
        self.failure = None
        return done
