"""The command ``triosmtp serve``: configuration, logs, signals, the control socket, and an orderly end."""

import logging
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import trio

from triosmtp.config import Config, load_config
from triosmtp.control.console_commands import ConsoleCommands
from triosmtp.control.control_socket import ControlSockets, close_control_sockets
from triosmtp.daemon import embedded_default as embedded
from triosmtp.daemon.config_warnings import config_warnings
from triosmtp.daemon.process_startup import Start, begin_process
from triosmtp.daemon.startup_signals import EarlySignals, have_stderr
from triosmtp.daemon.systemd_notify import Notifier, feed_watchdog
from triosmtp.errors import ConfigError, Problem, collect, is_transient
from triosmtp.event import (
    ConfigurationReloaded,
    ConfigurationReloadFailed,
    ServerDraining,
    ServerEnded,
    ServerStarted,
)
from triosmtp.logs.log_set import Logs, form_of, open_every_log
from triosmtp.server.server import Server, serve
from triosmtp.sockets.bound_socket import InheritedSocket
from triosmtp.status.status_listener import StatusListener
from triosmtp.status.status_source import ServerSource
from triosmtp.version import versions
from triosmtp.workers.supervisor import Supervisor, workers_of

__all__ = ["serve_command"]

_log = logging.getLogger("triosmtp.daemon")

_EX_TEMPFAIL: Final = 75  # sysexits.h
_EX_CONFIG: Final = 78
_AFTER_DRAIN: Final = 75.0
"""Seconds that the end may take after Drain_Timeout: last words, deliveries that are closed, logs."""


def serve_command(config_path: str | None, control_path: str | None = None) -> int:
    """Serve the configuration at ``config_path``, or the embedded default, until SIGTERM or SIGINT.

    The first signal drains: transactions under way are finished; a second one stops at once.  SIGHUP reads the
    configuration again.  ``control_path`` is where the control socket is, whatever the configuration says.  Gives the
    exit status: 0; where nothing could be served 78, or 75 where the same configuration may be served later, with the
    errors on stderr.
    """
    have_stderr()
    with EarlySignals() as early:
        return _run(config_path, control_path, early)


def _run(config_path: str | None, control_path: str | None, early: EarlySignals) -> int:
    try:
        notifier = Notifier.take()
        path = embedded.prepare() if config_path is None else Path(config_path)
        config = load_config(path)
        start = begin_process(config, path)
        warnings = (*config.warnings, *start.warnings, *config_warnings(config))
        logs = Logs(config, sys.stderr)
        for warning in warnings:
            if logs.form == "json":
                _log.warning("%s", warning)
            else:  # with its caret under the word that is meant
                print(warning, file=sys.stderr)
        greeting = embedded.how_to_try(path) if config_path is None else ""
        control = ControlSockets(None if control_path is None else Path(control_path))
        try:
            trio.run(_serve, path, config, control, logs, greeting, start, notifier, early)
        finally:
            logs.close()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return _EX_TEMPFAIL if error.transient else _EX_CONFIG
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return _EX_TEMPFAIL if is_transient(error) else _EX_CONFIG
    return 0


async def _serve(
    path: Path,
    config: Config,
    control: ControlSockets,
    logs: Logs,
    greeting: str,
    start: Start,
    notifier: Notifier,
    early: EarlySignals,
) -> None:
    fault: BaseExceptionGroup[ConfigError] | None = None
    daemon: _Daemon | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(logs.run, name="log")
            status = StatusListener()
            workers = workers_of(config)
            server: Server = await nursery.start(
                partial(
                    serve,
                    config,
                    observers=(*logs.observers, status.subscription),
                    sockets=start.sockets,
                    contexts=start.contexts,
                    pool=Supervisor(workers) if workers > 1 else None,
                    embedded=False,
                )
            )
            status.attach(ServerSource(server))
            as_root = start.identity is not None or os.geteuid() == 0
            daemon = _Daemon(path, server, control, status, logs, notifier, nursery, as_root=as_root)
            try:
                daemon.open(config, start.sockets)
                # Before anybody is told that it serves: who reads that may send a signal at once.
                await nursery.start(daemon.heed_signals)
                _announce(greeting, config, server, control, status)
                daemon.tell_started(config)
                nursery.start_soon(feed_watchdog, notifier, name="watchdog")
                notifier.ready("serving")
                if early.reload:
                    nursery.start_soon(daemon.reload_on_signal)
                await trio.sleep_forever()
            finally:
                control.close()
                status.close()
    except* ConfigError as group:
        fault = group
    finally:
        if daemon is not None:
            daemon.tell_ended()
    if fault is not None:  # raised here: Python 3.11.2 wraps what is raised within except*
        leaf: BaseException = fault
        while isinstance(leaf, BaseExceptionGroup):
            leaf = leaf.exceptions[0]
        raise leaf from None


def _announce(greeting: str, config: Config, server: Server, control: ControlSockets, status: StatusListener) -> None:
    """Tell on stdout what is served.  That nobody reads it is no reason not to serve."""
    lines = [greeting] if greeting else []
    for listen in config.listens:
        bound = server.addresses.get(listen.name)
        where = "a Unix socket" if bound is None else f"{bound[0]} port {bound[1]}"
        lines.append(f'Listen "{listen.name}": {where}')
    for listen in config.policy_listens:
        bound = server.policy_addresses.get(listen.name)
        where = "a Unix socket" if bound is None else f"{bound[0]} port {bound[1]}"
        lines.append(f'Policy Listen "{listen.name}": {where}')
    for name, place in status.addresses.items():
        where = "a Unix socket" if isinstance(place, str) else f"{place[0]} port {place[1]}"
        lines.append(f'Status Listen "{name}": {where}')
    lines += [f"Control socket: {place}" for place in control.paths]
    try:
        print(*lines, sep="\n", flush=True)
    except OSError as error:
        _log.warning("stdout: %s", error.strerror)
        # What could not be written is flushed once more at the interpreter's end: to nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Daemon:
    """One server with its configuration file, and what an operator may ask of it."""

    def __init__(
        self,
        path: Path,
        server: Server,
        control: ControlSockets,
        status: StatusListener,
        logs: Logs,
        notifier: Notifier,
        nursery: trio.Nursery,
        *,
        as_root: bool,
    ) -> None:
        self._path = path
        self._server = server
        self._control = control
        self._status = status
        self._logs = logs
        self._notifier = notifier
        self._nursery = nursery
        self._commands = ConsoleCommands(server, partial(self.reload, "console"), self.shut_down, status.overview)
        self._fixed = _fixed_at_the_start(server.service.config, as_root=as_root)
        self._as_root = as_root
        self._reloading = trio.Lock()
        self._draining = False
        self._end = "failed"
        self._started: float | None = None  # on Trio's clock

    def open(self, config: Config, sockets: Mapping[object, InheritedSocket]) -> None:
        """Open the control sockets and the Status_Listener; ``sockets`` are there already, by the key of their Listen.

        :raises ConfigError: where one that was asked for cannot be had.
        """
        prepared = self._status.prepare(config, sockets)
        try:
            control_sockets = self._control.open(config)
        except ConfigError:
            prepared.discard()
            raise
        self._control.apply(config, control_sockets, self._commands, self._nursery)
        self._status.follow(prepared, self._nursery)

    def tell_started(self, config: Config) -> None:
        """Tell the logs that it serves."""
        self._started = trio.current_time()
        addresses = self._server.addresses
        named = ((listen.name, addresses.get(listen.name)) for listen in config.listens)
        event = ServerStarted(
            version=versions()["triosmtp"],
            process=os.getpid(),
            path=str(self._path),
            listeners=tuple(name if bound is None else f"{name} {bound[0]} port {bound[1]}" for name, bound in named),
            workers=workers_of(config),
        )
        self._server.service.emit(event)

    def tell_ended(self) -> None:
        """Tell the logs that the last session has ended."""
        if self._started is not None:
            service, seconds = self._server.service, trio.current_time() - self._started
            counted = service.statistics
            told = {"sessions": counted.sessions_total, "messages": counted.messages_accepted}
            service.emit(ServerEnded(reason=self._end, seconds=seconds, **told))

    async def reload(self, reason: str) -> tuple[ConfigurationReloaded, list[str]]:
        """Read the configuration again; give its warnings, too.

        :raises ConfigError: where it cannot be used: then nothing has changed.
        """
        async with self._reloading:
            if self._draining:
                return await self._take_up(reason)  # which says why not
            self._notifier.reloading()
            state = "serving; the last reload failed"
            try:
                report, warnings = await self._take_up(reason)
                state = "serving"
            finally:
                if not self._draining:
                    self._notifier.ready(state)
        for warning in warnings:
            _log.warning("%s", warning)
        return report, warnings

    async def _take_up(self, reason: str) -> tuple[ConfigurationReloaded, list[str]]:
        with ExitStack() as undo:
            try:
                config, warnings = await trio.to_thread.run_sync(_look_at, self._path)
                problems: list[Problem] = []
                logs = collect(problems, partial(open_every_log, config))
                if logs is not None:
                    undo.callback(logs.close)
                control_sockets = collect(problems, partial(self._control.open, config))
                undo.callback(close_control_sockets, control_sockets or ())
                prepared = await trio.to_thread.run_sync(collect, problems, partial(self._status.prepare, config))
                if prepared is not None:
                    undo.callback(prepared.discard)
                if problems:
                    raise ConfigError(problems)
                assert logs is not None
                assert control_sockets is not None
                assert prepared is not None
            except ConfigError as error:
                failed = ConfigurationReloadFailed(path=str(self._path), reason=reason, problems=error.problems)
                self._server.service.emit(failed)
                raise
            report = await self._server.reload(config, reason=reason)
            undo.pop_all()
        self._logs.apply(logs)
        self._control.apply(config, control_sockets, self._commands, self._nursery)
        self._status.follow(prepared, self._nursery)
        fixed = _fixed_at_the_start(config, as_root=self._as_root)
        warnings += [what for what, value in fixed.items() if value != self._fixed[what]]
        return report, warnings

    def shut_down(self) -> None:
        """Begin to drain; where that was begun before, end at once."""
        if self._draining:
            self._end = "stopped"
            self._nursery.cancel_scope.cancel()
            return
        self._draining = True
        self._nursery.start_soon(self._drain)

    async def _drain(self) -> None:
        grace = self._server.service.config.base.drain_timeout
        self._notifier.stopping(grace + _AFTER_DRAIN)
        service = self._server.service
        service.emit(ServerDraining(sessions=service.statistics.sessions, grace=grace))
        await self._server.aclose(grace=grace)
        self._end = "drained"
        self._nursery.cancel_scope.cancel()

    async def heed_signals(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Reload on SIGHUP, and end on SIGTERM and SIGINT."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                if number == signal.SIGHUP:
                    self._nursery.start_soon(self.reload_on_signal)
                else:
                    self.shut_down()

    async def reload_on_signal(self) -> None:
        """Open the logs anew, and reload; what goes wrong is logged."""
        self._logs.reopen()  # whatever becomes of the configuration: whoever rotates logs waits for that
        try:
            await self.reload("SIGHUP")
        except ConfigError:
            _log.error("SIGHUP: the configuration in force stays in force")
        except Exception:  # noqa: BLE001 - whatever it is, a server that was asked to reload goes on
            _log.exception("SIGHUP: the reload failed")


def _fixed_at_the_start(config: Config, *, as_root: bool) -> dict[str, object]:
    """Give what no reload changes, by what a reload that would is told."""
    security = config.security if as_root else None  # else it has no effect
    return {
        "Workers: how many there are is decided at the start": workers_of(config),
        "Security: who serves, and with which rights, is decided at the start": security
        and (security.user, security.group, security.capabilities),
        'Log "stderr": its form is decided at the start': form_of(config, sys.stderr),
    }


def _look_at(path: Path) -> tuple[Config, list[str]]:
    config = load_config(path)
    return config, [str(warning) for warning in (*config.warnings, *config_warnings(config))]
