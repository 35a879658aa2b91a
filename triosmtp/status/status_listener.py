"""The sockets of the Status_Listener: bound, reloaded and closed with the configuration."""

import importlib
import logging
import socket
import time
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import trio
from attrs import frozen

from triosmtp.config import Config, UnixAddress, problem_at
from triosmtp.errors import ConfigError, Problem, needs_extra
from triosmtp.event import Observer, ServerEvent
from triosmtp.observer import EVENTS, Subscription
from triosmtp.server.policy_endpoint import read_token
from triosmtp.sockets.bound_socket import BoundSocket, InheritedSocket, SocketChanges, plan_sockets
from triosmtp.sockets.listening_socket import close_sockets
from triosmtp.sockets.peer import Peer
from triosmtp.sockets.peer_credentials import check_peer_credentials
from triosmtp.sockets.transport import SocketTransport, refuse_connection
from triosmtp.status.asgi import Application, Message, Receive, Scope, Send, error_response
from triosmtp.status.event_stream import EventStream
from triosmtp.status.login import Logins
from triosmtp.status.loop_lag import LongestLag, measure_lag
from triosmtp.status.metrics import Metrics
from triosmtp.status.overview import Overview
from triosmtp.status.request_access import AccessGuard, AccessRules
from triosmtp.status.status_source import StatusSource

__all__ = ["MAX_CONNECTIONS", "MAX_CONNECTIONS_PER_PEER", "PreparedStatus", "StatusListener", "read_access_rules"]

_log = logging.getLogger("triosmtp.status")

MAX_CONNECTIONS: Final = 128
MAX_CONNECTIONS_PER_PEER: Final = 32
"""Connections from one address.  Loopback is not limited, since a proxy there forwards requests of many clients."""


@frozen(slots=True)
class PreparedStatus:
    """The sockets and access rules of a new configuration, which do not serve yet."""

    sockets: SocketChanges
    access_rules: Mapping[object, AccessRules]
    """By the key of the Listen."""

    def discard(self) -> None:
        """Close the sockets."""
        close_sockets(self.sockets.opened)


class StatusListener:
    """The Status_Listener of one server.

    ``subscription`` is to be among the observers of the server from its start.
    """

    def __init__(self) -> None:
        self._source: StatusSource | None = None
        self._bindings: list[BoundSocket] = []
        self._applications: dict[object, AccessGuard] = {}
        self._observers: tuple[Observer, ...] = ()
        self.subscription = Subscription(self._observe)
        """The observer that counts and shows events; it gets none before the first Listen or the first overview."""
        self._metrics: Metrics | None = None
        self._overview: Overview | None = None
        self._events = EventStream(self.overview)
        self._logins = Logins()
        self._started = time.time()
        self._connections: Counter[str] = Counter()
        self._turn = trio.Lock()

    def _add_observer(self, observer: Observer) -> None:
        self._observers = (*self._observers, observer)
        self.subscription.change(EVENTS)

    def _observe(self, event: ServerEvent) -> None:
        for observer in self._observers:
            observer(event)

    def attach(self, source: StatusSource) -> None:
        """Set the source of the data, before :meth:`apply`."""
        self._source = source

    async def overview(self) -> dict[str, Any]:
        """Return the overview.  Events are counted from the first call on."""
        assert self._source is not None, "attach() comes first"
        return await self._start_overview().gather(self._source)

    def _start_overview(self) -> Overview:
        if self._overview is None:
            self._overview = Overview(started=self._started)
            self._add_observer(self._overview)
        return self._overview

    @property
    def addresses(self) -> dict[str, tuple[str, int] | str]:
        """The bound address of each Listen, by its name."""
        return {each.listen.name: each.address for each in self._bindings}

    def prepare(self, config: Config, sockets: Mapping[object, InheritedSocket] | None = None) -> PreparedStatus:
        """Bind the sockets of ``config`` and read its tokens, and change nothing.

        Pass the result to :meth:`apply`, or discard it.

        ``sockets`` are listening sockets that are bound already, by the key of their Listen.

        :raises ConfigError: if a socket cannot be bound or a token cannot be read.
        """
        access_rules = read_access_rules(config)
        return PreparedStatus(plan_sockets(config, self._bindings, config.status_listens, sockets), access_rules)

    def apply(self, prepared: PreparedStatus, nursery: trio.Nursery) -> None:
        """Serve the prepared sockets, and close those that are not configured any more.

        Connections stay open; an endless response such as the event stream goes on if its access is still allowed.
        """
        assert self._source is not None, "attach() comes first"
        self._applications.clear()
        if prepared.access_rules:
            from triosmtp.status.application import StatusApplication, build_application  # noqa: PLC0415 - needs the extra

            metrics = self._metrics or self._start_metrics(nursery)
            self._start_overview()
            for key, access in prepared.access_rules.items():
                self._applications[key] = build_application(
                    StatusApplication(self._source, access, metrics, self._events, self._logins)
                )
        self._bindings = prepared.sockets.apply()
        close_sockets(prepared.sockets.closed)
        for binding in prepared.sockets.opened:
            accept = partial(self._accept_connection, nursery)
            nursery.start_soon(binding.accept, accept, name=f"status {binding.listen.name}")

    def close(self) -> None:
        """Close all sockets."""
        close_sockets(self._bindings)
        self._bindings.clear()

    def _start_metrics(self, nursery: trio.Nursery) -> Metrics:
        """Start to count, until the process ends: a counter must not decrease."""
        longest = LongestLag()
        metrics = self._metrics = Metrics()
        metrics.longest_lag = longest
        self._add_observer(metrics)
        nursery.start_soon(measure_lag, metrics.lag, longest, name="event loop lag")
        return metrics

    # Connections

    def _accept_connection(self, nursery: trio.Nursery, binding: BoundSocket, sock: socket.socket, peer: Peer) -> None:
        address = binding.listen.address
        if isinstance(address, UnixAddress) and (refused := check_peer_credentials(sock, address.mode)):
            _log.warning("status connection refused: %s", refused)
            sock.close()
            return
        is_local = peer.address is None or peer.address.is_loopback
        host = "" if is_local else str(peer.address)
        if self._connections.total() >= MAX_CONNECTIONS or (
            host and self._connections[host] >= MAX_CONNECTIONS_PER_PEER
        ):
            refuse_connection(sock, error_response(503))
            return
        self._connections[host] += 1
        nursery.start_soon(self._serve_connection, binding, sock, peer, host, name="status")

    async def _serve_connection(self, binding: BoundSocket, sock: socket.socket, peer: Peer, host: str) -> None:
        from triosmtp.status.http_server import serve_http  # noqa: PLC0415 - as above

        transport = SocketTransport(sock)
        client = None if peer.address is None else (str(peer.address), peer.port or 0)
        try:
            # The application is looked up for each request, so that a new token applies to open connections.
            await serve_http(
                transport, partial(self._respond, binding), client=client, closing=partial(_is_closed, binding)
            )
        finally:
            transport.close()
            self._connections[host] -= 1
            if not self._connections[host]:
                del self._connections[host]

    async def _respond(self, binding: BoundSocket, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_if_allowed(message: Message) -> None:
            if message.get("more_body") and not self._is_allowed(binding, scope):
                await send({"type": "http.response.body"})
                raise trio.ClosedResourceError("access is not allowed any more")
            await send(message)

        async with self._turn:  # one request begins in each round of the event loop, even if many are pipelined
            pass
        # A Listen may be removed while its connections are open.
        application: Application = self._applications.get(binding.listen.key, _unavailable)
        await application(scope, receive, send_if_allowed)

    def _is_allowed(self, binding: BoundSocket, scope: Scope) -> bool:
        """Check whether a request would be allowed now: a reload, a logout or time may have ended its access."""
        guard = self._applications.get(binding.listen.key)
        return guard is not None and not _is_closed(binding) and guard.refusal(scope) is None


async def _unavailable(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 503, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


def _is_closed(binding: BoundSocket) -> bool:
    return binding.is_closed


def read_access_rules(config: Config) -> dict[object, AccessRules]:
    """Return the access rules of each Listen of a Status_Listener, by its key.  Blocks.

    :raises ConfigError: if a token cannot be used, or a package is not installed.
    """
    problems = _missing_packages(config)
    access_rules = {}
    for listen in config.status_listens:
        settings = config.resolve(listen, None)
        try:
            access_rules[listen.key] = AccessRules.of(listen, settings, read_token(settings, "token_file"))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            problems.append(problem_at(settings, "token_file", f"{settings.token_file}: {reason}"))
    if problems:
        raise ConfigError(problems)
    return access_rules


def _missing_packages(config: Config) -> list[Problem]:
    if not config.status_listens:
        return []  # the packages are not needed
    missing = []
    for module in ("starlette.applications", "prometheus_client"):
        try:
            importlib.import_module(module)
        except ImportError:
            missing.append(module.partition(".")[0])
    if not missing:
        return []
    text = needs_extra(", ".join(missing), "status")
    return [listen.problem(f'Listen "{listen.name}" of a Status_Listener {text}') for listen in config.status_listens]
