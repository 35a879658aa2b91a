"""All the logs of one server: the one on stderr, and Momentum's where the configuration asks for them."""

import os
import sys
from functools import partial
from typing import TextIO

import trio

from triosmtp.config import Config
from triosmtp.daemon.log import EventLog, Form, configure, loss_note
from triosmtp.daemon.momentum_log import MomentumLogs, open_logs
from triosmtp.daemon.outlet import Outlet
from triosmtp.event import Observer

__all__ = ["Logs", "form_of"]

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


class Logs:
    """The logs of one process, from before its first event to after its last.

    :raises ConfigError: where a file of a Log scope cannot be opened.
    """

    def __init__(self, config: Config, stream: TextIO = sys.stderr) -> None:
        self._momentum = open_logs(config)
        self.form = form_of(config, stream)
        """How the log on stderr is written; it stays so until the end of the process."""
        self.outlet = Outlet(stream, partial(loss_note, self.form))
        configure(self.outlet, form=self.form)
        self.observers: tuple[Observer, ...] = (EventLog(self.outlet, form=self.form), self._momentum)
        """Who writes what happens."""

    def follow(self, opened: MomentumLogs) -> None:
        """Go on with the files that :func:`~triosmtp.daemon.momentum_log.open_logs` opened for a new configuration."""
        self._momentum.succeed(opened)

    def reopen(self) -> None:
        """Open every file anew: whoever rotates logs has renamed the old one."""
        self._momentum.reopen()

    def close(self) -> None:
        """Give what waits a last moment, and close the files."""
        self._momentum.close()
        self.outlet.close()

    async def run(self) -> None:
        """Write what had to wait, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._momentum.run)
            await self.outlet.run()
