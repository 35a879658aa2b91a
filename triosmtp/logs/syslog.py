"""The log in syslog: a datagram for each line, to the socket of the local syslog daemon (/dev/log).

Nothing here waits for that daemon.  What its socket has no room for, or what comes while it is away, waits in bounded
memory until it takes lines again; what does not fit is counted, and told.
"""

import logging
import os
import select
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio
from attrs import frozen

from triosmtp.config import LogFile
from triosmtp.errors import Problem
from triosmtp.event import ServerEvent
from triosmtp.logs.event_log import EventLines, Form, Record, formatter_of, text_of

__all__ = ["Destination", "Syslog", "SyslogSocket", "open_syslog"]

_log = logging.getLogger("triosmtp.log")

DEV_LOG: Final = Path("/dev/log")
_FACILITIES: Final = {
    "user": 1, "mail": 2, "daemon": 3, "auth": 4, "news": 7, "uucp": 8, "cron": 9, "authpriv": 10, "ftp": 11,
    **{f"local{number}": 16 + number for number in range(8)},
}  # fmt: skip
_SEVERITIES: Final = {
    logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2,
}  # fmt: skip
"""The severity of each level (RFC 5424, section 6.2.1)."""
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_LONGEST: Final = 8192
"""Octets of a datagram: what syslog daemons take by default."""
_WAITING: Final = 4 * 1024 * 1024
_AGAIN: Final = 1.0
"""Seconds between two attempts to reach a daemon that is away."""
_UNREAD: Final = "nobody read it"
_LAST_WORDS: Final = 500
"""Milliseconds that what waits at the process's end is given."""


@frozen(slots=True)
class Destination:
    """Where lines go, and how they read."""

    path: Path
    facility: int
    form: Form


class SyslogSocket:
    """A connection to the socket of a syslog daemon, which comes back when that daemon does.

    :raises OSError: if there is no such socket.  A daemon that is away for the moment is no error.
    """

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        self._tag = f"triosmtp[{os.getpid()}]: "
        self._socket: socket.socket | None = None
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._trouble = ""  # why lines wait or are lost; told once, until it works again
        self._lost = 0
        self._lock = threading.Lock()  # records come from worker threads, too
        self._wanted = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._loop = 0  # the thread of the event loop, which alone sends while run() runs
        self._running = trio.CancelScope()
        with suppress(ConnectionRefusedError):
            self._connect()

    def send(self, level: int, text: str) -> None:
        """Send each line of ``text``, or let it wait.  Never blocks, and never raises."""
        with self._lock:
            before, idle = self._trouble, not self._waiting
            for line in text.rstrip("\n").split("\n"):
                self._keep(self._datagram(level, line))
            if self._token is None or (idle and self._loop == threading.get_ident()):
                self._send_waiting()
            if self._waiting and self._token is not None:
                self._token.run_sync_soon(self._wanted.set, idempotent=True)
            trouble = self._trouble
        if trouble and not before:
            _log.error('Log "syslog": %s: %s: lines wait, and may be lost', self.destination.path, trouble)

    async def run(self) -> None:
        """Send what waits as soon as the daemon takes it, until cancelled or closed.  To be called once."""
        self._token, self._loop = trio.lowlevel.current_trio_token(), threading.get_ident()
        try:
            with self._running:
                while True:
                    self._wanted = trio.Event()
                    if not self._waiting:
                        await self._wanted.wait()
                    with self._lock:
                        self._send_waiting()
                    if self._waiting:
                        await self._wait()
        finally:
            self._token = None

    def adopt(self, old: "SyslogSocket") -> None:
        """Go on with what another one did not send."""
        waiting, lost = old.surrender()
        with self._lock:
            for datagram in waiting:
                self._keep(datagram)
            self._lost += lost
            self._send_waiting()

    def surrender(self) -> tuple[tuple[bytes, ...], int]:
        """Return what was not sent, and how many lines were lost, and forget them."""
        with self._lock:
            left = tuple(self._waiting), self._lost
            self._waiting.clear()
            self._size = self._lost = 0
            return left

    def reconnect(self) -> None:
        """Connect anew: the daemon may have made a new socket."""
        with self._lock:
            self._disconnect()
            self._send_waiting()

    def close(self) -> None:
        """End.  What waits is given a last moment."""
        with self._lock:
            self._send_waiting()
            poll = select.poll()
            while self._waiting and self._socket is not None:
                poll.register(self._socket, select.POLLOUT)
                before = len(self._waiting)
                if poll.poll(_LAST_WORDS):
                    self._send_waiting()
                if len(self._waiting) == before:
                    break
            lost = self._lost + len(self._waiting)
            self._waiting.clear()
            self._disconnect()
        self._running.cancel()
        if lost:
            _log.error('Log "syslog": %s: %d lines were lost', self.destination.path, lost)

    async def _wait(self) -> None:
        """Wait until the daemon may take more."""
        sock = self._socket
        if sock is None:
            await trio.sleep(_AGAIN)
            return
        try:
            await trio.lowlevel.wait_writable(sock)
        except (OSError, trio.ClosedResourceError):
            await trio.sleep(_AGAIN)

    def _datagram(self, level: int, line: str) -> bytes:
        """Return a line as syslog daemons take it from /dev/log: without a host, in local time (RFC 3164)."""
        now = time.localtime()
        priority = self.destination.facility * 8 + _SEVERITIES.get(level, 6)
        moment = f"{_MONTHS[now.tm_mon - 1]} {now.tm_mday:2} {now.tm_hour:02}:{now.tm_min:02}:{now.tm_sec:02}"
        data = f"<{priority}>{moment} {self._tag}{line}".encode("utf-8", "backslashreplace")
        if len(data) <= _LONGEST:
            return data
        return data[: _LONGEST - 3].decode("utf-8", "ignore").encode() + "…".encode()

    def _keep(self, datagram: bytes) -> None:
        if self._waiting and self._size + len(datagram) > _WAITING:
            self._lost += 1
            self._trouble = self._trouble or _UNREAD
        else:
            self._waiting.append(datagram)
            self._size += len(datagram)

    def _send_waiting(self) -> None:
        while self._waiting:
            if not self._send(self._waiting[0]):
                return
            self._size -= len(self._waiting.popleft())
            if self._lost and not self._waiting:
                note = f"{self._lost} lines of this log were lost: {self._trouble}"
                self._lost = 0
                self._keep(self._datagram(logging.WARNING, note))
        self._trouble = ""

    def _send(self, datagram: bytes) -> bool:
        """Send one, over a new connection if the old one has broken; return whether it was taken."""
        for _ in range(2):
            try:
                if self._socket is None:
                    self._connect()
                assert self._socket is not None
                self._socket.send(datagram)
                return True
            except BlockingIOError:
                return False
            except OSError as error:
                self._trouble = error.strerror or repr(error)
                self._disconnect()
        return False

    def _connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.connect(str(self.destination.path))
        except OSError:
            sock.close()
            raise
        self._socket = sock

    def _disconnect(self) -> None:
        if self._socket is not None:
            if self._token is not None:
                trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
            self._socket = None


def open_syslog(place: LogFile) -> SyslogSocket | Problem:
    """Return the socket that ``Log "syslog"`` asks for, or what is wrong with it."""
    path = place.path or DEV_LOG
    destination = Destination(path, _FACILITIES[place.facility], "json" if place.format == "json" else "text")
    try:
        return SyslogSocket(destination)
    except OSError as error:
        return place.problem(f'Log "syslog": {path}: {error.strerror}')


class Syslog(logging.Handler):
    """Sends events, as an observer of them, and log records to syslog, if a configuration asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.socket: SyslogSocket | None = None
        self._events: _Events | None = None
        self._nursery: trio.Nursery | None = None

    def follow(self, opened: SyslogSocket | None) -> None:
        """Go on with ``opened``, or, if it goes where the old one goes, with that."""
        old = self.socket
        if old is not None and opened is not None and old.destination == opened.destination:
            opened.close()
            return
        self.socket, self._events = opened, None
        if opened is not None:
            form = opened.destination.form
            self._events = _Events(opened, form)
            self.setFormatter(formatter_of(form, "%(message)s"))
            if self._nursery is not None:
                self._nursery.start_soon(opened.run, name="syslog")
        if old is not None:
            if opened is not None:
                opened.adopt(old)
            old.close()

    def reopen(self) -> None:
        """Connect anew: the daemon may have made a new socket."""
        if self.socket is not None:
            self.socket.reconnect()

    def emit(self, record: logging.LogRecord) -> None:
        """Send a log record."""
        if self.socket is not None:
            self.socket.send(record.levelno, self.format(record))

    def observe(self, event: ServerEvent) -> None:
        """Send an event."""
        if self._events is not None:
            self._events(event)

    async def run(self) -> None:
        """Send what had to wait, whatever sockets come and go, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            if self.socket is not None:
                nursery.start_soon(self.socket.run, name="syslog")
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None


class _Events(EventLines):
    """Formats events as the log on stderr does, without the time and the level: syslog has its own."""

    def __init__(self, sock: SyslogSocket, form: Form) -> None:
        super().__init__(form=form)
        self._socket = sock

    def _put(self, _event: ServerEvent, level: int, line: str) -> None:
        self._socket.send(level, line)

    def _text(self, _level: int, record: Record, _now: float) -> str:
        return text_of(record)
