"""All the logs of one server: the one on stderr, and Momentum's where the configuration asks for them."""

import logging
import os
import sys
from functools import partial
from typing import TextIO

import trio
from attrs import frozen

from triosmtp.config import Config
from triosmtp.errors import ConfigError, Problem, collect
from triosmtp.event import Observer
from triosmtp.logs.event_log import EventLog, Form, configure, loss_note
from triosmtp.logs.momentum_log import MomentumLogs, open_logs
from triosmtp.logs.non_blocking_writer import Outlet
from triosmtp.logs.syslog import Syslog, SyslogSocket, open_syslog

__all__ = ["Logs", "OpenedLogs", "form_of", "open_every_log"]

FORMAT_VARIABLE = "TRIOSMTP_LOG_FORMAT"
"""The environment variable that says what Log "stderr" does not: ``text`` or ``json``."""


def form_of(config: Config, stream: TextIO) -> Form:
    """Give the form of the log on ``stream``: what Log "stderr" says, else the environment, else by who reads it."""
    for log in config.logs:
        if log.name == "stderr" and log.format != "auto":
            return log.format
    said = os.environ.get(FORMAT_VARIABLE)
    if said in {"text", "json"}:
        return "json" if said == "json" else "text"
    return "text" if stream.isatty() else "json"


@frozen(slots=True)
class OpenedLogs:
    """The logs beside stderr that a configuration asks for, open."""

    files: MomentumLogs
    syslog: SyslogSocket | None

    def close(self) -> None:
        """Close them all."""
        self.files.close()
        if self.syslog is not None:
            self.syslog.close()


def open_every_log(config: Config) -> OpenedLogs:
    """Open the logs that ``config`` asks for beside stderr.

    :raises ConfigError: naming each that cannot be opened.
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

    :raises ConfigError: where a file of a Log scope cannot be opened.
    """

    def __init__(self, config: Config, stream: TextIO = sys.stderr) -> None:
        opened = open_every_log(config)
        self._momentum = opened.files
        self._syslog = Syslog()
        self.form = form_of(config, stream)
        """How the log on stderr is written; it stays so until the end of the process."""
        self.outlet = Outlet(stream, partial(loss_note, self.form))
        configure(self.outlet, form=self.form)
        self.observers: tuple[Observer, ...] = (
            EventLog(self.outlet, form=self.form),
            self._momentum,
            self._syslog.observe,
        )
        """Who writes what happens."""
        logging.getLogger("triosmtp").addHandler(self._syslog)
        self._syslog.follow(opened.syslog)

    def follow(self, opened: OpenedLogs) -> None:
        """Go on with what :func:`open_every_log` opened for a new configuration."""
        self._momentum.succeed(opened.files)
        self._syslog.follow(opened.syslog)

    def reopen(self) -> None:
        """Open every file anew: whoever rotates logs has renamed the old one."""
        self._momentum.reopen()
        self._syslog.reopen()

    def close(self) -> None:
        """Give what waits a last moment, and close the files."""
        self._momentum.close()
        self._syslog.follow(None)
        logging.getLogger("triosmtp").removeHandler(self._syslog)
        self.outlet.close()

    async def run(self) -> None:
        """Write what had to wait, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._momentum.run)
            nursery.start_soon(self._syslog.run)
            await self.outlet.run()
