"""The log on stderr: one line for each event, in which no text of a peer can forge a line or a field.

There are two forms: ``key=value`` for people, and one JSON object a line for programs.
"""

import json
import json.encoder
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime
from time import localtime, strftime, time
from typing import Any, Final, Literal, TextIO, TypeAlias

from triosmtp.event import Connected, Disconnected, ServerEvent, TLSEstablished
from triosmtp.logs.event_fields import LINES, Fields, drop_empty_fields
from triosmtp.logs.json_lines import JSON_LINES
from triosmtp.logs.non_blocking_writer import NonBlockingWriter
from triosmtp.logs.repeat_filter import RepeatFilter

__all__ = ["EventLines", "EventLog", "Form", "configure", "formatter_of", "loss_note", "text_of"]

_log = logging.getLogger("triosmtp")

Form: TypeAlias = Literal["text", "json"]
"""The form of the lines."""

_DEFERRED: Final = frozenset({Connected, TLSEstablished, Disconnected})
"""Events whose lines may be written a moment later.  All other lines are written before the client gets a reply."""
_LEVELS: Final = {level: logging.getLevelName(level).lower() for level in (10, 20, 30, 40, 50)}
_PLAIN: Final = re.compile(r"[!#-<>-\[\]-~]+").fullmatch


def _make_encoder() -> Callable[[Any], str]:
    """Return a JSON encoder; one that is made once, if the interpreter has its encoder in C.

    ``JSONEncoder.encode`` makes that encoder again for each object, which costs more than to encode the line.
    """
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return json.JSONEncoder(separators=(",", ":"), default=str).encode
    encode = make(None, str, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, True)
    join = "".join
    return lambda value: join(encode(value, 0))


_encode: Final = _make_encoder()


class _OneRecord(logging.Formatter):
    """Formats a record as one line, and what follows it, such as a traceback, indented below."""

    def format(self, record: logging.LogRecord) -> str:
        lines = super().format(record).splitlines()
        return "\n    ".join(
            "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in line) for line in lines
        )


class _OneObject(logging.Formatter):
    """Formats a record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": "log",
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return _encode(fields)


def configure(stream: TextIO | NonBlockingWriter, level: int = logging.INFO, form: Form = "text") -> None:
    """Send the records of the logger ``triosmtp`` to ``stream``."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter_of(form))
    _log.addHandler(handler)
    _log.setLevel(level)
    _log.propagate = False
    # No formatter here prints these, so they need not be looked up for each record.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def formatter_of(form: Form, text: str = "%(asctime)s %(levelname)s %(message)s") -> logging.Formatter:
    """Return the formatter of log records; ``text`` is the format of the text form."""
    return _OneObject() if form == "json" else _OneRecord(text)


def loss_note(form: Form, lines: int, reason: str) -> str:
    """Return the line that says how many lines were lost."""
    text = f"{lines} lines of this log were lost: {reason}"
    return formatter_of(form).format(logging.LogRecord(_log.name, logging.WARNING, "", 0, text, None, None)) + "\n"


class EventLines(ABC):
    """Makes the line of each event, in the form that :func:`configure` sets for all other records.

    The package ``logging`` is not used for them: for one line it costs as much as two SMTP commands.
    """

    def __init__(self, level: int = logging.INFO, form: Form = "text") -> None:
        self._lines = {
            kind: (*line, self._sink(line[0], deferrable=kind in _DEFERRED))
            for kind, line in LINES.items()
            if line[0] >= level
        }
        short = JSON_LINES if form == "json" else {}
        self._short = {kind: (write, self._lines[kind][-1]) for kind, write in short.items() if kind in self._lines}
        self._line = self._json_line if form == "json" else self._text_line
        self._second = -1
        self._date = ""  # of that second, in the form
        self._filter = RepeatFilter()
        self.kinds: frozenset[type] = self._filter.kinds | self._lines.keys()
        """The types of events that matter to it."""

    def __call__(self, event: ServerEvent) -> None:
        """Write the line of ``event``, if its level is high enough and its session did not repeat it too often."""
        kind = event.__class__
        if kind in self._filter.kinds:
            for each, more in self._filter(event):
                self._write(each, more)
            return
        short = self._short.get(kind)
        if short is not None:
            write, put = short
            text = write(event)
            if text is not None:
                now = time()
                second = int(now)
                date = self._date if second == self._second else self._date_of(second)
                milliseconds = int((now - second) * 1000)
                put(f'{{"time":"{date}.{milliseconds:03d}+00:00",{text}}}\n')
                return
        self._write(event, 0)

    def _write(self, event: ServerEvent, more: int) -> None:
        line = self._lines.get(event.__class__)
        if line is None:
            return
        level, name, describe, put = line
        fields = drop_empty_fields(describe(event))
        if more:
            fields["folded"] = more
        put(self._line(level, name, fields))

    @abstractmethod
    def _sink(self, level: int, *, deferrable: bool) -> Callable[[str], None]:
        """Return what takes the lines of one kind; those that are ``deferrable`` may be written with a later one."""

    def _text_line(self, level: int, name: str, fields: Fields) -> str:
        now = time()
        second = int(now)
        if second != self._second:
            self._second, self._date = second, strftime("%Y-%m-%d %H:%M:%S", localtime(second))
        milliseconds = int((now - second) * 1000)
        return f"{self._date},{milliseconds:03d} {logging.getLevelName(level)} {text_of(name, fields)}\n"

    def _json_line(self, level: int, name: str, fields: Fields) -> str:
        now = time()
        second = int(now)
        date = self._date if second == self._second else self._date_of(second)
        moment = f"{date}.{int((now - second) * 1000):03d}+00:00"
        # The encoder writes ASCII alone, so there is nothing that any reader takes for the end of a line.
        return _encode({"time": moment, "level": _LEVELS[level], "event": name, **fields}) + "\n"

    def _date_of(self, second: int) -> str:
        """Return the date and time of a second, and keep them for more lines of that second."""
        self._second, self._date = second, datetime.fromtimestamp(second, UTC).isoformat().removesuffix("+00:00")
        return self._date


class EventLog(EventLines):
    """Writes the lines of events to a text stream."""

    def __init__(self, stream: TextIO | NonBlockingWriter, level: int = logging.INFO, form: Form = "text") -> None:
        self._stream = stream
        super().__init__(level, form)

    def _sink(self, _level: int, *, deferrable: bool) -> Callable[[str], None]:
        if not isinstance(self._stream, NonBlockingWriter):
            return self._write_at_once
        return self._stream.defer if deferrable else self._stream.write

    def _write_at_once(self, line: str) -> None:
        self._stream.write(line)
        self._stream.flush()


def text_of(name: str, fields: Fields) -> str:
    """Return the text form of a line, without time and level, and its details on lines below it."""
    details = fields.get("details", ())
    line = " ".join([name, *(f"{key}={_quoted(key, value)}" for key, value in fields.items() if key != "details")])
    return "\n    ".join((line, *details)) if isinstance(details, tuple) else line


def _quoted(key: str, value: object) -> str:
    """Return ``value`` as it is if it is ASCII without blanks, else as a JSON string with all but ASCII escaped."""
    text = ",".join(value) if isinstance(value, tuple) else str(value)
    if key == "from":
        text = f"<{text}>"
    return text if _PLAIN(text) else json.dumps(text)
