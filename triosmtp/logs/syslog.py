"""The log in syslog: a datagram for each line, to the socket of the local syslog daemon (/dev/log).

Nothing here waits for that daemon.  If its socket is full or closed, lines wait in bounded memory until it takes lines
again.  Lines that do not fit are lost: they are counted and reported.
"""

import logging
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import trio
from attrs import frozen

from triosmtp.config import LogFile
from triosmtp.errors import Problem
from triosmtp.event import ServerEvent
from triosmtp.logs.event_fields import Fields
from triosmtp.logs.event_log import EventLines, Form, formatter_of, text_of
from triosmtp.observer import Subscription

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
_MAX_DATAGRAM: Final = 8192
"""Octets of a datagram: the most that syslog daemons take by default."""
_WAITING: Final = 4 * 1024 * 1024
_RETRY_SECONDS: Final = 1.0
"""Seconds between two attempts to connect to the daemon."""
_UNREAD: Final = "nobody read it"
_CLOSE_MS: Final = 500
"""Milliseconds for which :meth:`SyslogSocket.close` waits for the daemon."""


@frozen(slots=True)
class Destination:
    """The socket, the facility and the form of the lines."""

    path: Path
    facility: int
    form: Form


class SyslogSocket:
    """A connection to the socket of a syslog daemon.  It is made again if the daemon was started again.

    :raises OSError: if there is no such socket.  A daemon that does not listen at the moment is no error.
    """

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        self._tag = f"triosmtp[{os.getpid()}]: "
        self._socket: socket.socket | None = None
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._trouble = ""  # why lines wait or are lost; reported once
        self._lost = 0  # lines, since it was reported
        self.lost_total = 0
        """Lines that were lost, reported or not."""
        self._lock = threading.Lock()  # log records come from worker threads too
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
        """Send waiting lines as soon as the daemon takes them, until cancelled or closed.  To be called once."""
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
        """Send the lines that another socket left."""
        waiting, lost = old.detach()
        with self._lock:
            for datagram in waiting:
                self._keep(datagram)
            self._lost += lost
            self.lost_total += old.lost_total
            self._send_waiting()

    def detach(self) -> tuple[tuple[bytes, ...], int]:
        """Remove and return the lines that were not sent, and the number of lost lines."""
        with self._lock:
            left = tuple(self._waiting), self._lost
            self._waiting.clear()
            self._size = self._lost = 0
            return left

    def reconnect(self) -> None:
        """Connect again, because the daemon may have made a new socket."""
        with self._lock:
            self._disconnect()
            self._send_waiting()

    def close(self) -> None:
        """Stop, after a short wait for the daemon to take the waiting lines."""
        with self._lock:
            self._send_waiting()
            poll = select.poll()
            while self._waiting and self._socket is not None:
                poll.register(self._socket, select.POLLOUT)
                before = len(self._waiting)
                if poll.poll(_CLOSE_MS):
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
        """Wait until the daemon may take more lines."""
        sock = self._socket
        if sock is None:
            await trio.sleep(_RETRY_SECONDS)
            return
        try:
            await trio.lowlevel.wait_writable(sock)
        except (OSError, trio.ClosedResourceError):
            await trio.sleep(_RETRY_SECONDS)

    def _datagram(self, level: int, line: str) -> bytes:
        """Return a line as syslog daemons take it from /dev/log: without a host, in local time (RFC 3164)."""
        now = time.localtime()
        priority = self.destination.facility * 8 + _SEVERITIES.get(level, 6)
        moment = f"{_MONTHS[now.tm_mon - 1]} {now.tm_mday:2} {now.tm_hour:02}:{now.tm_min:02}:{now.tm_sec:02}"
        data = f"<{priority}>{moment} {self._tag}{line}".encode("utf-8", "backslashreplace")
        if len(data) <= _MAX_DATAGRAM:
            return data
        return data[: _MAX_DATAGRAM - 3].decode("utf-8", "ignore").encode() + "…".encode()

    def _keep(self, datagram: bytes) -> None:
        if self._waiting and self._size + len(datagram) > _WAITING:
            self._lost += 1
            self.lost_total += 1
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
        """Send a datagram, over a new connection if the old one broke; return whether the daemon took it."""
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
    """Return the socket of ``Log "syslog"``, or the problem with it."""
    path = place.path or DEV_LOG
    destination = Destination(path, _FACILITIES[place.facility], "json" if place.format == "json" else "text")
    try:
        return SyslogSocket(destination)
    except OSError as error:
        return place.problem(f'Log "syslog": {path}: {error.strerror}')


class Syslog(logging.Handler):
    """Sends events, as an observer, and log records to syslog, if the configuration has ``Log "syslog"``."""

    def __init__(self) -> None:
        super().__init__()
        self.socket: SyslogSocket | None = None
        self.subscription = Subscription(self._observe)
        """The observer that sends events."""
        self._events: _Events | None = None
        self._nursery: trio.Nursery | None = None

    def apply(self, opened: SyslogSocket | None) -> None:
        """Use ``opened`` from now on; or the old socket, if both have the same destination."""
        old = self.socket
        if old is not None and opened is not None and old.destination == opened.destination:
            opened.close()
            return
        self.socket, self._events = opened, None
        self.subscription.change(())
        if opened is not None:
            form = opened.destination.form
            self._events = _Events(opened, form)
            self.subscription.change(self._events.kinds)
            self.setFormatter(formatter_of(form, "%(message)s"))
            if self._nursery is not None:
                self._nursery.start_soon(opened.run, name="syslog")
        if old is not None:
            if opened is not None:
                opened.adopt(old)
            old.close()

    def reopen(self) -> None:
        """Connect again, because the daemon may have made a new socket."""
        if self.socket is not None:
            self.socket.reconnect()

    def emit(self, record: logging.LogRecord) -> None:
        """Send a log record."""
        if self.socket is not None:
            self.socket.send(record.levelno, self.format(record))

    def _observe(self, event: ServerEvent) -> None:
        if self._events is not None:
            self._events(event)

    async def run(self) -> None:
        """Send waiting lines over the socket in use, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            if self.socket is not None:
                nursery.start_soon(self.socket.run, name="syslog")
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None


class _Events(EventLines):
    """Formats events as the log on stderr does, but without the time and the level, which syslog adds."""

    def __init__(self, sock: SyslogSocket, form: Form) -> None:
        self._socket = sock
        super().__init__(form=form)

    def _sink(self, level: int, *, deferrable: bool) -> Callable[[str], None]:  # noqa: ARG002 - a datagram is never late
        return partial(self._socket.send, level)

    def _text_line(self, _level: int, name: str, fields: Fields) -> str:
        return text_of(name, fields)
