"""The command ``triosmtp serve``: start, reload, drain and end of a server with its logs and its control socket."""

import gc
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
from triosmtp.control.control_socket import ControlSockets
from triosmtp.daemon.config_warnings import config_warnings
from triosmtp.daemon.embedded_default import usage_hints, write_embedded_default
from triosmtp.daemon.process_startup import StartupResources, prepare_process
from triosmtp.daemon.startup_signals import StartupSignals, ensure_stderr
from triosmtp.daemon.systemd_notify import SystemdNotifier, ping_watchdog
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
from triosmtp.sockets.listening_socket import close_sockets
from triosmtp.status.status_listener import StatusListener
from triosmtp.status.status_source import ServerSource
from triosmtp.version import versions
from triosmtp.workers.supervisor import count_workers, run_workers

__all__ = ["serve_command"]

_log = logging.getLogger("triosmtp.daemon")

_EX_TEMPFAIL: Final = 75  # sysexits.h
_EX_CONFIG: Final = 78
_CLOSE_TIMEOUT: Final = 75.0
"""Seconds that closing sessions, deliveries and logs may take after Drain_Timeout."""


def serve_command(config_path: str | None, control_path: str | None = None) -> int:
    """Serve the configuration at ``config_path``, or the embedded default, until SIGTERM or SIGINT.

    The first signal drains: transactions under way are finished.  A second signal stops at once.  SIGHUP reads the
    configuration again.  ``control_path`` replaces the control sockets of the configuration.

    Print errors on stderr.  Return the exit status: 0; 78 if the server could not start; 75 if the error is temporary.
    """
    ensure_stderr()
    with StartupSignals() as signals:
        return _run(config_path, control_path, signals)


def _run(config_path: str | None, control_path: str | None, signals: StartupSignals) -> int:
    try:
        notifier = SystemdNotifier.from_environment()
        path = write_embedded_default() if config_path is None else Path(config_path)
        config = load_config(path)
        resources = prepare_process(config, path)
        warnings = (*config.warnings, *resources.warnings, *config_warnings(config))
        logs = Logs(config, sys.stderr)
        for warning in warnings:
            if logs.form == "json":
                _log.warning("%s", warning)
            else:  # with a caret under the word
                print(warning, file=sys.stderr)
        greeting = usage_hints(path) if config_path is None else ""
        control = ControlSockets(None if control_path is None else Path(control_path))
        try:
            trio.run(_serve, path, config, control, logs, greeting, resources, notifier, signals)
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
    resources: StartupResources,
    notifier: SystemdNotifier,
    signals: StartupSignals,
) -> None:
    failure: BaseExceptionGroup[ConfigError] | None = None
    daemon: _Daemon | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(logs.run, name="log")
            status = StatusListener()
            workers = count_workers(config)
            server: Server = await nursery.start(
                partial(
                    serve,
                    config,
                    observers=(*logs.observers, status.subscription),
                    sockets=resources.sockets,
                    contexts=resources.contexts,
                    open_pool=partial(run_workers, workers) if workers > 1 else None,
                    embedded=False,
                )
            )
            status.attach(ServerSource(server, logs.lost_lines))
            as_root = resources.identity is not None or os.geteuid() == 0
            daemon = _Daemon(path, server, control, status, logs, notifier, nursery, as_root=as_root)
            try:
                daemon.open(config, resources.sockets)
                # Before it is announced: a program that reads the announcement may send a signal at once.
                await nursery.start(daemon.handle_signals)
                _print_addresses(greeting, config, server, control, status)
                daemon.emit_started(config)
                nursery.start_soon(ping_watchdog, notifier, name="watchdog")
                notifier.notify_ready("serving")
                gc.freeze()  # a collection would stop all sessions for 35 ms, mostly to look at modules
                if signals.reload:
                    nursery.start_soon(daemon.reload_on_signal)
                await trio.sleep_forever()
            finally:
                control.close()
                status.close()
    except* ConfigError as group:
        failure = group
    finally:
        if daemon is not None:
            daemon.emit_ended()
    if failure is not None:  # raised here: Python 3.11.2 wraps an exception that is raised within except*
        leaf: BaseException = failure
        while isinstance(leaf, BaseExceptionGroup):
            leaf = leaf.exceptions[0]
        raise leaf from None


def _print_addresses(
    greeting: str, config: Config, server: Server, control: ControlSockets, status: StatusListener
) -> None:
    """Print the addresses that are served.  An error of stdout does not stop the server."""
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
        # The interpreter flushes the rest once more at its end, then to /dev/null.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Daemon:
    """One server with its configuration file, and the operations that an operator can request."""

    def __init__(
        self,
        path: Path,
        server: Server,
        control: ControlSockets,
        status: StatusListener,
        logs: Logs,
        notifier: SystemdNotifier,
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
        self._fixed = _fixed_options(server.service.config, as_root=as_root)
        self._as_root = as_root
        self._reloading = trio.Lock()
        self._draining = False
        self._end = "failed"
        self._started: float | None = None  # on Trio's clock

    def open(self, config: Config, sockets: Mapping[object, InheritedSocket]) -> None:
        """Open the control sockets and the Status_Listener; ``sockets`` are bound already, by the key of their Listen.

        :raises ConfigError: if a configured socket cannot be opened.
        """
        prepared = self._status.prepare(config, sockets)
        try:
            control_sockets = self._control.open(config)
        except ConfigError:
            prepared.discard()
            raise
        self._control.apply(config, control_sockets, self._commands, self._nursery)
        self._status.apply(prepared, self._nursery)

    def emit_started(self, config: Config) -> None:
        """Emit the event that the server has started."""
        self._started = trio.current_time()
        addresses = self._server.addresses
        named = ((listen.name, addresses.get(listen.name)) for listen in config.listens)
        event = ServerStarted(
            version=versions()["triosmtp"],
            process=os.getpid(),
            path=str(self._path),
            listeners=tuple(name if bound is None else f"{name} {bound[0]} port {bound[1]}" for name, bound in named),
            workers=count_workers(config),
        )
        self._server.service.emit(event)

    def emit_ended(self) -> None:
        """Emit the event that the last session has ended."""
        if self._started is not None:
            service, seconds = self._server.service, trio.current_time() - self._started
            counted = service.statistics
            totals = {"sessions": counted.sessions_total, "messages": counted.messages_accepted}
            service.emit(ServerEnded(reason=self._end, seconds=seconds, **totals))

    async def reload(self, reason: str) -> tuple[ConfigurationReloaded, list[str]]:
        """Read the configuration again and apply it; return its warnings, too.

        :raises ConfigError: if it cannot be used.  Then nothing has changed.
        """
        async with self._reloading:
            if self._draining:
                return await self._apply_reload(reason)  # which raises the reason
            self._notifier.notify_reloading()
            state = "serving; the last reload failed"
            try:
                report, warnings = await self._apply_reload(reason)
                state = "serving"
            finally:
                if not self._draining:
                    self._notifier.notify_ready(state)
        for warning in warnings:
            _log.warning("%s", warning)
        return report, warnings

    async def _apply_reload(self, reason: str) -> tuple[ConfigurationReloaded, list[str]]:
        with ExitStack() as undo:
            try:
                config, warnings = await trio.to_thread.run_sync(_load, self._path)
                problems: list[Problem] = []
                logs = collect(problems, partial(open_every_log, config))
                if logs is not None:
                    undo.callback(logs.close)
                control_sockets = collect(problems, partial(self._control.open, config))
                undo.callback(close_sockets, control_sockets or ())
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
        self._status.apply(prepared, self._nursery)
        fixed = _fixed_options(config, as_root=self._as_root)
        warnings += [warning for warning, value in fixed.items() if value != self._fixed[warning]]
        return report, warnings

    def shut_down(self) -> None:
        """Begin to drain; if the server drains already, end at once."""
        if self._draining:
            self._end = "stopped"
            self._nursery.cancel_scope.cancel()
            return
        self._draining = True
        self._nursery.start_soon(self._drain)

    async def _drain(self) -> None:
        grace = self._server.service.config.base.drain_timeout
        self._notifier.notify_stopping(grace + _CLOSE_TIMEOUT)
        service = self._server.service
        service.emit(ServerDraining(sessions=service.statistics.sessions, grace=grace))
        await self._server.aclose(grace=grace)
        self._end = "drained"
        self._nursery.cancel_scope.cancel()

    async def handle_signals(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Reload on SIGHUP, and end on SIGTERM and SIGINT."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                if number == signal.SIGHUP:
                    self._nursery.start_soon(self.reload_on_signal)
                else:
                    self.shut_down()

    async def reload_on_signal(self) -> None:
        """Open the logs again and reload the configuration; log errors."""
        self._logs.reopen()  # even if the configuration has errors: logrotate waits for it
        try:
            await self.reload("SIGHUP")
        except ConfigError:
            _log.error("SIGHUP: the reload failed; the previous configuration stays in force")
        except Exception:  # noqa: BLE001 - a failed reload must not end the server
            _log.exception("SIGHUP: the reload failed")


def _fixed_options(config: Config, *, as_root: bool) -> dict[str, object]:
    """Return the values that a reload cannot change, by the warning to log if it would."""
    security = config.security if as_root else None  # else it has no effect
    return {
        "Workers: a change takes effect at the next start": count_workers(config),
        "Node_Name: a change takes effect at the next start": config.base.node_name,
        "Publish_Events: a change takes effect at the next start": (
            config.base.publish_events,
            config.base.publish_events_credentials_file,
        ),
        "Security: a change takes effect at the next start": security
        and (security.user, security.group, security.capabilities),
        'Log "stderr": a change of its form takes effect at the next start': form_of(config, sys.stderr),
    }


def _load(path: Path) -> tuple[Config, list[str]]:
    config = load_config(path)
    return config, [str(warning) for warning in (*config.warnings, *config_warnings(config))]
