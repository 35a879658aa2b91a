"""Warnings about scopes and options that only ``triosmtp serve`` serves, and :func:`triosmtp.serve` ignores."""

import logging
from collections.abc import Iterator

from triosmtp.config import Config, problem_at
from triosmtp.errors import Problem, Severity

__all__ = ["ignored_scopes", "warn_ignored_scopes"]

_log = logging.getLogger("triosmtp.server")


def ignored_scopes(config: Config) -> Iterator[Problem]:
    """Yield a warning, with its place, for each scope and option that an embedded server ignores."""
    for log in config.logs:
        text = "the program that embeds the server writes its own log: use observers and logging"
        yield log.problem(f'Log "{log.name}" is not written: {text}', Severity.WARNING)
    for listen in config.status_listens:
        text = "the program has Server.statistics and observers, or run `triosmtp serve`"
        yield listen.problem(f'Status_Listener: Listen "{listen.name}" is not served: {text}', Severity.WARNING)
    for listen in config.control_listens:
        text = "the program has Server.reload() and Server.aclose(), or run `triosmtp serve`"
        yield listen.problem(f'Control_Listener: Listen "{listen.name}" is not served: {text}', Severity.WARNING)
    if config.security is not None:
        text = "Security has no effect: the program gives up its rights itself, or run `triosmtp serve`"
        yield config.security.problem(text, Severity.WARNING)
    if config.base.workers != 1:
        text = "is not served: all sessions run in this process; for more, run `triosmtp serve`"
        yield problem_at(config.base, "workers", text, Severity.WARNING)


def warn_ignored_scopes(config: Config) -> None:
    """Log the warnings, one line each."""
    for problem in ignored_scopes(config):
        _log.warning("%s", str(problem).partition("\n")[0])
