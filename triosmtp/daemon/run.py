"""The command ``triosmtp serve``: configuration, logs, signals, and an orderly end."""

import logging
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Final

import trio

from triosmtp.config import Config, load_config
from triosmtp.daemon import embedded
from triosmtp.daemon.check import surprises
from triosmtp.daemon.log import EventLog, configure
from triosmtp.errors import ConfigError
from triosmtp.server import Server, serve

__all__ = ["serve_command"]

_log = logging.getLogger("triosmtp.daemon")

_EX_CONFIG: Final = 78  # sysexits.h
_DRAIN: Final = 30.0


def serve_command(config_path: str | None) -> int:
    """Serve the configuration at ``config_path``, or the embedded default, until SIGTERM or SIGINT.

    The first signal drains: transactions under way are finished; a second one stops at once.  Gives the exit status:
    0, or 78 with the errors on stderr where nothing could be served.
    """
    try:
        path = embedded.prepare() if config_path is None else Path(config_path)
        config = load_config(path)
        for warning in (*config.warnings, *surprises(config)):
            print(warning, file=sys.stderr)
        configure()
        greeting = embedded.how_to_try(path) if config_path is None else ""
        trio.run(_serve, config, greeting)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return _EX_CONFIG
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return _EX_CONFIG
    return 0


async def _serve(config: Config, greeting: str) -> None:
    try:
        async with trio.open_nursery() as nursery:
            server: Server = await nursery.start(partial(serve, config, observers=(EventLog(sys.stderr),)))
            # Before anybody is told that it serves: who reads that may send a signal at once.
            await nursery.start(_stop_on_signal, server, nursery.cancel_scope)
            _announce(greeting, config, server)
    except* ConfigError as group:
        # One error, whatever groups the nurseries put around it.
        leaf: BaseException = group
        while isinstance(leaf, BaseExceptionGroup):
            leaf = leaf.exceptions[0]
        raise leaf from None


def _announce(greeting: str, config: Config, server: Server) -> None:
    """Tell on stdout what is served.  That nobody reads it is no reason not to serve."""
    lines = [greeting] if greeting else []
    for listen in config.listens:
        bound = server.addresses.get(listen.name)
        where = "a Unix socket" if bound is None else f"{bound[0]} port {bound[1]}"
        lines.append(f'Listen "{listen.name}": {where}')
    try:
        print(*lines, sep="\n", flush=True)
    except OSError as error:
        _log.warning("stdout: %s", error.strerror)
        # What could not be written is flushed once more at the interpreter's end: to nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _stop_on_signal(
    server: Server, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async with trio.open_nursery() as nursery:
            draining = False
            async for _ in signals:
                if draining:
                    scope.cancel()
                    return
                draining = True
                nursery.start_soon(_drain, server, scope)


async def _drain(server: Server, scope: trio.CancelScope) -> None:
    await server.aclose(grace=_DRAIN)
    scope.cancel()
