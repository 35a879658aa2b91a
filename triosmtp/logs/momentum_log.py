r"""Momentum's own logs, in its exact form: mainlog, rejectlog, acctlog, each where a Log scope names a file for it.

A line is one event, and whatever a peer said stays inside of its field: what separates fields is escaped by ``\``, and
no character that any reader takes for the end of a line is written as it is.
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
from triosmtp.logs.non_blocking_writer import Outlet

__all__ = ["MomentumLogs", "open_logs"]

_log = logging.getLogger("triosmtp.log")

_MODE: Final = 0o640
"""Who may read addresses is for the operator to widen."""
_BINDING: Final = "default"
"""Bindings are Momentum's outbound addresses: there are none here."""

_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]")
_LISTED: Final = re.compile(r"[\\,=\[\]]")


@define(slots=True, eq=False)
class _File:
    """A log that is open."""

    place: LogFile
    descriptor: int
    outlet: Outlet = field(init=False)
    failing: bool = False

    def __attrs_post_init__(self) -> None:
        self.outlet = Outlet(self.descriptor, self.report)

    def write(self, line: str) -> None:
        """Append a line.  That lines are lost is told once, on stderr, until it works again."""
        self.outlet.write(f"{line}\n")
        trouble = self.outlet.trouble
        if trouble is not None and not self.failing:
            _log.error("%s: %s: lines are lost", self.place.path, trouble)
        self.failing = trouble is not None

    def report(self, lines: int, reason: str) -> str:
        """Tell on stderr what was lost: in the file itself nothing stands but Momentum's lines."""
        _log.error("%s: %s: %d lines were lost", self.place.path, reason, lines)
        return ""

    def close(self, *, patient: bool = True) -> None:
        self.outlet.close(patient=patient)
        os.close(self.descriptor)

    def succeed(self, old: "_File") -> "_File":
        """Give what is to go on: the old one where it is the same file, else this one, with what waits there."""
        if os.path.sameopenfile(self.descriptor, old.descriptor):
            old.place = self.place
            self.close()
            return old
        self.outlet.take_over(old.outlet.surrender())
        os.close(old.descriptor)
        return self


@frozen(slots=True)
class LogForm:
    """What the lines of all logs depend on, beside the event."""

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
    """An observer of events that writes those logs that a configuration asks for; made by :func:`open_logs`.

    Where nobody reads a pipe, lines wait; :meth:`run` writes them when somebody does.
    """

    files: dict[str, _File] = field(factory=dict, repr=False)
    form: LogForm = field(factory=LogForm)
    _nursery: trio.Nursery | None = field(default=None, init=False, repr=False)

    def succeed(self, logs: "MomentumLogs") -> None:
        """Go on with the files of ``logs``, and close those of before.  What waits for a log goes on with it."""
        old, self.files, self.form = self.files, {}, logs.form
        for name, file in logs.files.items():
            self._take(name, file, old.pop(name, None))
        for each in old.values():
            each.close(patient=False)

    def reopen(self) -> None:
        """Open every file anew, under the name that it has: whoever rotates logs has renamed the old one.

        One that cannot be opened is told, and goes on as it was.
        """
        for name, old in self.files.items():
            try:
                file = _open(old.place)
            except OSError as error:
                _log.error('Log "%s": %s: %s: the old file stays open', name, old.place.path, error.strerror)
            else:
                self._take(name, file, old)

    def _take(self, name: str, file: _File, old: _File | None) -> None:
        kept = file if old is None else file.succeed(old)
        self.files[name] = kept
        if kept is file and self._nursery is not None:
            self._nursery.start_soon(file.outlet.run, name=f"log {name}")

    async def run(self) -> None:
        """Write what had to wait, whatever files come and go, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for name, file in self.files.items():
                nursery.start_soon(file.outlet.run, name=f"log {name}")
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def close(self) -> None:
        """Close every file.  What waits is given a last moment."""
        _close(self.files.values())
        self.files = {}

    def __call__(self, event: ServerEvent) -> None:
        """Write what the event asks for."""
        row = _ROWS.get(type(event)) if self.files else None
        if row is None:
            return
        name, write = row
        file = self.files.get(name)
        if file is not None:
            for line in write(event, self.form):
                file.write(line)


def open_logs(config: Config) -> MomentumLogs:
    """Open the files that ``config`` names.

    :raises ConfigError: naming each that cannot be opened.
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
    """Open for appending.  A pipe is opened for reading, too: that waits for no reader, and breaks without none."""
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
    """Give the address of ``address:port``, without the brackets that IPv6 has there."""
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
