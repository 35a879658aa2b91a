"""The logs of one process: the log on stderr, syslog, and Momentum's logs."""

import logging
import os
import sys
from collections.abc import Mapping
from functools import partial
from typing import TextIO

import trio
from attrs import frozen

from triosmtp.config import Config
from triosmtp.errors import ConfigError, Problem, collect
from triosmtp.event import Observer
from triosmtp.logs.event_log import EventLog, Form, configure, loss_note
from triosmtp.logs.momentum_log import MomentumLogs, open_logs
from triosmtp.logs.non_blocking_writer import NonBlockingWriter
from triosmtp.logs.syslog import Syslog, SyslogSocket, open_syslog
from triosmtp.observer import Subscription

__all__ = ["Logs", "OpenedLogs", "form_of", "open_every_log"]

FORMAT_VARIABLE = "TRIOSMTP_LOG_FORMAT"
"""The environment variable with the form, ``text`` or ``json``, for which Log "stderr" has no Format."""


def form_of(config: Config, stream: TextIO) -> Form:
    """Return the form of the log on ``stream``: of Log "stderr", else of the environment, else text on a terminal."""
    for log in config.logs:
        if log.name == "stderr" and log.format != "auto":
            return log.format
    said = os.environ.get(FORMAT_VARIABLE)
    if said in {"text", "json"}:
        return "json" if said == "json" else "text"
    return "text" if stream.isatty() else "json"


@frozen(slots=True)
class OpenedLogs:
    """The open logs of a configuration, except stderr."""

    files: MomentumLogs
    syslog: SyslogSocket | None

    def close(self) -> None:
        """Close them all."""
        self.files.close()
        if self.syslog is not None:
            self.syslog.close()


def open_every_log(config: Config) -> OpenedLogs:
    """Open the logs of ``config``, except stderr.

    :raises ConfigError: for each log that cannot be opened.
    """
    problems: list[Problem] = []
    files = collect(problems, partial(open_logs, config))
    places = (open_syslog(place) for place in config.logs if place.name == "syslog")
    syslog = next(places, None)  # scopes of one name are one
    if isinstance(syslog, Problem):
        problems.append(syslog)
        syslog = None
    if problems or files is None:
        for opened in (files, syslog):
            if opened is not None:
                opened.close()
        raise ConfigError(problems)
    return OpenedLogs(files, syslog)


class Logs:
    """The logs of one process, from before its first event to after its last.

    :raises ConfigError: if a file of a Log scope cannot be opened.
    """

    def __init__(self, config: Config, stream: TextIO = sys.stderr) -> None:
        opened = open_every_log(config)
        self._momentum = opened.files
        self._syslog = Syslog()
        self.form = form_of(config, stream)
        """The form of the log on stderr, until the end of the process."""
        self.writer = NonBlockingWriter(stream, partial(loss_note, self.form))
        configure(self.writer, form=self.form)
        log = EventLog(self.writer, form=self.form)
        self.observers: tuple[Observer, ...] = (
            Subscription(log, log.kinds),
            self._momentum.subscription,
            self._syslog.subscription,
        )
        """The observers that write events."""
        logging.getLogger("triosmtp").addHandler(self._syslog)
        self._syslog.apply(opened.syslog)

    def lost_lines(self) -> Mapping[str, int]:
        """Return the number of lines that each log lost, by its name."""
        syslog = self._syslog.socket
        found = {"stderr": self.writer.lost_total}
        if syslog is not None:
            found["syslog"] = syslog.lost_total
        return found | {name: file.writer.lost_total for name, file in self._momentum.files.items()}

    def apply(self, opened: OpenedLogs) -> None:
        """Use the logs that :func:`open_every_log` opened for a new configuration."""
        self._momentum.apply(opened.files)
        self._syslog.apply(opened.syslog)

    def reopen(self) -> None:
        """Open every file again, after log rotation has renamed the old one."""
        self._momentum.reopen()
        self._syslog.reopen()

    def close(self) -> None:
        """Close the files, after a short wait for lines that are not written."""
        self._momentum.close()
        self._syslog.apply(None)
        logging.getLogger("triosmtp").removeHandler(self._syslog)
        self.writer.close()

    async def run(self) -> None:
        """Write waiting lines, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._momentum.run)
            nursery.start_soon(self._syslog.run)
            await self.writer.run()
