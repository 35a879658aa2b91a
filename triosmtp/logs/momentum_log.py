r"""Momentum's mainlog, rejectlog and acctlog, in Momentum's exact form, for each of which a Log scope names a file.

A line is one event.  Text of a peer stays within its field: separators of fields are escaped by ``\``.  So is every
character that a reader may take for the end of a line.
"""

import logging
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import trio
from attrs import define, field, frozen

from triosmtp.config import Config, LogFile
from triosmtp.errors import ConfigError, Problem
from triosmtp.event import AuthAttempted, ConnectionRefused, MessageAccepted, MessageRefused, Refused, ServerEvent
from triosmtp.logs.non_blocking_writer import NonBlockingWriter
from triosmtp.observer import Subscription

__all__ = ["MomentumLogs", "open_logs"]

_log = logging.getLogger("triosmtp.log")

_MODE: Final = 0o640
"""The logs hold addresses: the operator may let others read them."""
_BINDING: Final = "default"
"""A binding is an outbound address in Momentum; triosmtp has none."""

_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]")
_LISTED: Final = re.compile(r"[\\,=\[\]]")


@define(slots=True, eq=False)
class _File:
    """An open log."""

    place: LogFile
    descriptor: int
    writer: NonBlockingWriter = field(init=False)
    failing: bool = False

    def __attrs_post_init__(self) -> None:
        self.writer = NonBlockingWriter(self.descriptor, self.report)

    def write(self, line: str) -> None:
        """Append a line.  If lines are lost, report that once on stderr."""
        self.writer.write(f"{line}\n")
        trouble = self.writer.trouble
        if trouble is not None and not self.failing:
            _log.error("%s: %s: lines are lost", self.place.path, trouble)
        self.failing = trouble is not None

    def report(self, lines: int, reason: str) -> str:
        """Report lost lines on stderr: the file itself holds only Momentum's lines."""
        _log.error("%s: %s: %d lines were lost", self.place.path, reason, lines)
        return ""

    def close(self, *, wait: bool = True) -> None:
        self.writer.close(wait=wait)
        os.close(self.descriptor)

    def replace(self, old: "_File") -> "_File":
        """Return the log to use: ``old`` if it is the same file, else this one, with the lines that wait in ``old``."""
        if os.path.sameopenfile(self.descriptor, old.descriptor):
            old.place = self.place
            self.close()
            return old
        self.writer.adopt(old.writer.detach())
        os.close(old.descriptor)
        return self


@frozen(slots=True)
class LogForm:
    """Settings on which the lines of all logs depend."""

    groups: Mapping[str, str] = field(factory=dict, repr=False)
    """The Pathway_Group of each Pathway."""
    hires: bool = False
    """Whether the time of a line has microseconds."""

    def now(self) -> str:
        """Return the time as a line begins with it: seconds since the epoch."""
        now = time.time()
        return f"{now:.6f}" if self.hires else str(int(now))


@define(slots=True, eq=False)
class MomentumLogs:
    """An observer that writes the logs of a configuration; made by :func:`open_logs`.

    If the reader of a pipe does not read, lines wait; :meth:`run` writes them when it does.
    """

    files: dict[str, _File] = field(factory=dict, repr=False)
    form: LogForm = field(factory=LogForm)
    subscription: Subscription = field(init=False, repr=False)
    """The observer that writes the lines of events."""
    _nursery: trio.Nursery | None = field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.subscription = Subscription(self, ())
        self._subscribe()

    def _subscribe(self) -> None:
        self.subscription.change([kind for kind, (name, _) in _ROWS.items() if name in self.files])

    def apply(self, logs: "MomentumLogs") -> None:
        """Use the files of ``logs`` from now on, and close those before.  Waiting lines go to the new file."""
        old, self.files, self.form = self.files, {}, logs.form
        for name, file in logs.files.items():
            self._take(name, file, old.pop(name, None))
        for each in old.values():
            each.close(wait=False)
        self._subscribe()

    def reopen(self) -> None:
        """Open every file again under its name, after log rotation has renamed the old one.

        If a file cannot be opened, report that and go on with the old one.
        """
        for name, old in self.files.items():
            try:
                file = _open(old.place)
            except OSError as error:
                _log.error('Log "%s": %s: %s: the old file stays open', name, old.place.path, error.strerror)
            else:
                self._take(name, file, old)

    def _take(self, name: str, file: _File, old: _File | None) -> None:
        kept = file if old is None else file.replace(old)
        self.files[name] = kept
        if kept is file and self._nursery is not None:
            self._nursery.start_soon(file.writer.run, name=f"log {name}")

    async def run(self) -> None:
        """Write waiting lines of the files in use, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for name, file in self.files.items():
                nursery.start_soon(file.writer.run, name=f"log {name}")
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def close(self) -> None:
        """Close every file, after a short wait for lines that are not written."""
        _close(self.files.values())
        self.files = {}

    def __call__(self, event: ServerEvent) -> None:
        """Write the lines of ``event``."""
        row = _ROWS.get(type(event))
        if row is None:
            return
        name, write = row
        file = self.files.get(name)
        if file is not None:
            for line in write(event, self.form):
                file.write(line)


def open_logs(config: Config) -> MomentumLogs:
    """Open the files that ``config`` names.

    :raises ConfigError: for each file that cannot be opened.
    """
    opened: dict[str, _File] = {}
    problems: list[Problem] = []
    for place in config.logs:
        if place.path is None or place.name == "syslog":
            continue
        try:
            opened[place.name] = _open(place)
        except OSError as error:
            problems.append(place.problem(f'Log "{place.name}": {place.path}: {error.strerror}'))
    if problems:
        _close(opened.values())
        raise ConfigError(problems)
    return MomentumLogs(opened, LogForm(config.pathway_groups, hires=config.base.log_hires_timestamp))


def _open(place: LogFile) -> _File:
    """Open for appending.  A pipe is opened for reading too, so that it needs no reader."""
    assert place.path is not None
    flags = os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY
    try:
        is_pipe = stat.S_ISFIFO(place.path.stat().st_mode)
    except FileNotFoundError:
        is_pipe = False
    mode = os.O_RDWR | os.O_NONBLOCK if is_pipe else os.O_WRONLY
    descriptor = os.open(place.path, flags | mode, _MODE)
    return _File(place, descriptor)


def _close(files: Iterable[_File]) -> None:
    for file in files:
        file.close()


# The lines


def _escaped(text: str, special: re.Pattern[str]) -> str:
    text = special.sub(lambda match: "\\" + match[0], text)
    return text if text.isprintable() else _UNPRINTABLE.sub(_unprintable, text)


def _unprintable(match: re.Match[str]) -> str:
    character = match[0]
    if character.isprintable():
        return character
    return "\\n" if character == "\n" else "\\r" if character == "\r" else character.encode("unicode_escape").decode()


_AT: Final = re.compile(r"[\\@]")
_QUOTE: Final = re.compile(r'[\\"]')


def _record(*fields: object) -> str:
    return "@".join(_escaped(str(each), _AT) for each in fields)


def _host(peer: str) -> str:
    """Return the address of ``address:port``, without the brackets of an IPv6 address."""
    return peer.rpartition(":")[0].strip("[]") or peer


def _halves(address: str) -> tuple[str, str]:
    local, at, domain = address.rpartition("@")
    return (local, domain) if at else (address, "")


def _reception(event: MessageAccepted, form: LogForm) -> Iterable[str]:
    now, sender = form.now(), _halves(event.sender)
    for recipient in event.recipients:
        yield _record(
            now,
            event.message,
            event.message,  # what one transaction brought is one batch
            event.session.id,
            "R",
            *_halves(recipient),
            *sender,
            _host(event.session.peer),
            event.size,
            "esmtp",  # Momentum's name for all that came by SMTP
            _BINDING,
            _BINDING,
        )


def _attempt(event: AuthAttempted, form: LogForm) -> Iterable[str]:
    passed = "1" if event.succeeded else "0"
    if not event.logged:
        return []
    return [_record(form.now(), "N", event.session.listener, event.session.peer, event.user, passed)]


def _rejection(event: Refused | MessageRefused, form: LogForm) -> Iterable[str]:
    phase = event.phase if isinstance(event, Refused) else "data_spool"
    text = f"{event.enhanced} {event.text}" if event.enhanced else event.text
    pathway = event.variables.get("pathway", "")
    yield (
        f"{form.now()}: R={_quoted(event.session.peer)} L={_quoted(event.session.local)} C={_quoted(event.session.id)} "
        f"PATH={_quoted(pathway)} PATH_GRP={_quoted(form.groups.get(pathway, ''))} P={_quoted(phase)} E={event.code} "
        f"M={_module(event.decided_by)} CTXCONN={_context(event.variables)} "
        f"CTXMESS={_context(event.message_variables)} {_escaped(text, _BACKSLASH)}"
    )


def _turned_away(event: ConnectionRefused, form: LogForm) -> Iterable[str]:
    yield (
        f'{form.now()}: R={_quoted(event.peer)} L={_quoted(event.listener)} C="" PATH="" PATH_GRP="" '
        f'P="connect" E=421 M=limit CTXCONN=[] CTXMESS=[] {_escaped(event.reason, _BACKSLASH)}'
    )


_BACKSLASH: Final = re.compile(r"\\")
_NO_WORD: Final = re.compile(r"[^!-~]")


def _quoted(text: str) -> str:
    return f'"{_escaped(text, _QUOTE)}"'


def _module(decided_by: str) -> str:
    return _NO_WORD.sub("_", decided_by) or "-"


def _context(variables: Mapping[str, str]) -> str:
    pairs = (f"{_escaped(key, _LISTED)}={_escaped(value, _LISTED)}" for key, value in variables.items())
    return f"[{','.join(pairs)}]"


_ROWS: Final[dict[type, tuple[str, Callable[..., Iterable[str]]]]] = {
    MessageAccepted: ("mainlog", _reception),
    Refused: ("rejectlog", _rejection),
    MessageRefused: ("rejectlog", _rejection),
    ConnectionRefused: ("rejectlog", _turned_away),
    AuthAttempted: ("acctlog", _attempt),
}
