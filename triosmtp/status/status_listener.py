"""The sockets of the Status_Listener, and how they follow the configuration."""

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
from triosmtp.errors import ConfigError, Problem
from triosmtp.event import Observer, ServerEvent
from triosmtp.observer import EVENTS, Subscription
from triosmtp.server.policy_listener import read_token
from triosmtp.sockets.bound_socket import Binding, InheritedSocket, Plan, close_sockets, plan
from triosmtp.sockets.listener import Peer, accept_connections
from triosmtp.sockets.peer_credentials import check_peer_credentials
from triosmtp.sockets.transport import SocketTransport, refuse_connection
from triosmtp.status.asgi import Application, Message, Receive, Scope, Send, refusal
from triosmtp.status.event_stream import Feed
from triosmtp.status.login import Logins
from triosmtp.status.loop_lag import LongestLag, measure_lag
from triosmtp.status.metric import Metrics
from triosmtp.status.overview import Overview
from triosmtp.status.request_access import Access, Guard
from triosmtp.status.status_source import Source

__all__ = ["CONNECTIONS", "CONNECTIONS_OF_ONE_PEER", "Prepared", "StatusListener", "read_accesses"]

_log = logging.getLogger("triosmtp.status")

CONNECTIONS: Final = 128
"""At once; further ones are turned away."""
CONNECTIONS_OF_ONE_PEER: Final = 32
"""Of these, from one address beyond this host; a proxy on this host speaks for many."""


@frozen(slots=True)
class Prepared:
    """What a configuration asks for, bound and read; nothing else was done."""

    sockets: Plan
    accesses: Mapping[object, Access]
    """By the key of the Listen."""

    def discard(self) -> None:
        """Close what was bound."""
        close_sockets(self.sockets.opened)


class StatusListener:
    """The Status_Listener of one server.

    ``subscription`` is to be among the observers of the server from its start.
    """

    def __init__(self) -> None:
        self._source: Source | None = None
        self._bindings: list[Binding] = []
        self._applications: dict[object, Guard] = {}
        self._observers: tuple[Observer, ...] = ()
        self.subscription = Subscription(self._observe)
        """The observer that counts and shows events; it gets none before the first Listen or the first overview."""
        self._metrics: Metrics | None = None
        self._overview: Overview | None = None
        self._feed = Feed(self.overview)
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

    def attach(self, source: Source) -> None:
        """Take what is to be shown: before anything is served."""
        self._source = source

    async def overview(self) -> dict[str, Any]:
        """Give all that an operator looks at; what has happened is kept from the first time on that anybody asks."""
        assert self._source is not None, "attach() comes first"
        return await self._watched().gather(self._source)

    def _watched(self) -> Overview:
        if self._overview is None:
            self._overview = Overview(started=self._started)
            self._add_observer(self._overview)
        return self._overview

    @property
    def addresses(self) -> dict[str, tuple[str, int] | str]:
        """Where each Listen is bound, by its name."""
        return {each.listen.name: each.address for each in self._bindings}

    def prepare(self, config: Config, sockets: Mapping[object, InheritedSocket] | None = None) -> Prepared:
        """Have what ``config`` asks for, and change nothing.  Hand it to :meth:`follow`, or discard it.

        ``sockets`` are listening sockets that are there already, by the key of their Listen.

        :raises ConfigError: where it cannot be had.
        """
        accesses = read_accesses(config)
        return Prepared(plan(config, self._bindings, config.status_listens, sockets), accesses)

    def follow(self, prepared: Prepared, nursery: trio.Nursery) -> None:
        """Serve what was prepared, and close what is not asked for any more.

        Connections under way go on; an answer without an end, as the live feed is, goes on where it still may.
        """
        assert self._source is not None, "attach() comes first"
        self._applications.clear()
        if prepared.accesses:
            from triosmtp.status.application import Site, application  # noqa: PLC0415 - needs the extra

            metrics = self._metrics or self._count(nursery)
            self._watched()
            for key, access in prepared.accesses.items():
                self._applications[key] = application(Site(self._source, access, metrics, self._feed, self._logins))
        for kept in prepared.sockets.kept:
            kept.follow()
        close_sockets(prepared.sockets.closed)
        for binding in prepared.sockets.opened:
            nursery.start_soon(self._accept, binding, nursery, name=f"status {binding.listen.name}")
        self._bindings = [*(kept.binding for kept in prepared.sockets.kept), *prepared.sockets.opened]

    def close(self) -> None:
        """Close all sockets."""
        close_sockets(self._bindings)
        self._bindings.clear()

    def _count(self, nursery: trio.Nursery) -> Metrics:
        """Begin to count.  It goes on when the last Listen is gone: counters do not go back."""
        longest = LongestLag()
        metrics = self._metrics = Metrics()
        metrics.longest_lag = longest
        self._add_observer(metrics)
        nursery.start_soon(measure_lag, metrics.lag, longest, name="event loop lag")
        return metrics

    # Connections

    async def _accept(self, binding: Binding, nursery: trio.Nursery) -> None:
        with binding.accepting:
            await accept_connections(binding.sock, partial(self._take, binding, nursery))

    def _take(self, binding: Binding, nursery: trio.Nursery, sock: socket.socket, peer: Peer) -> None:
        address = binding.listen.address
        if isinstance(address, UnixAddress) and (who := check_peer_credentials(sock, address.mode)):
            _log.warning("turned away from the status of this server: %s", who)
            sock.close()
            return
        near = peer.address is None or peer.address.is_loopback
        host = "" if near else str(peer.address)
        if self._connections.total() >= CONNECTIONS or (host and self._connections[host] >= CONNECTIONS_OF_ONE_PEER):
            refuse_connection(sock, refusal(503))
            return
        self._connections[host] += 1
        nursery.start_soon(self._converse, binding, sock, peer, host, name="status")

    async def _converse(self, binding: Binding, sock: socket.socket, peer: Peer, host: str) -> None:
        from triosmtp.status.http_server import serve_http  # noqa: PLC0415 - as above

        transport = SocketTransport(sock)
        client = None if peer.address is None else (str(peer.address), peer.port or 0)
        try:
            # Found anew for each request, so that a token that was changed holds for connections that are open.
            await serve_http(transport, partial(self._answer, binding), client=client, closing=partial(_gone, binding))
        finally:
            transport.close()
            self._connections[host] -= 1
            if not self._connections[host]:
                del self._connections[host]

    async def _answer(self, binding: Binding, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_on(message: Message) -> None:
            if message.get("more_body") and not self._may_go_on(binding, scope):
                await send({"type": "http.response.body"})
                raise trio.ClosedResourceError("who looks on may do so no more")
            await send(message)

        async with self._turn:  # in each round of the event loop one request begins, however many were pipelined
            pass
        # A Listen may be taken away while its connections are open.
        application: Application = self._applications.get(binding.listen.key, _unavailable)
        await application(scope, receive, send_on)

    def _may_go_on(self, binding: Binding, scope: Scope) -> bool:
        """Whether a request would be let in if it came now: reloads, a logout and time take such rights away."""
        guard = self._applications.get(binding.listen.key)
        return guard is not None and not _gone(binding) and guard.refusal(scope) is None


async def _unavailable(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 503, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


def _gone(binding: Binding) -> bool:
    return binding.sock.fileno() < 0


def read_accesses(config: Config) -> dict[object, Access]:
    """Give what each Listen of a Status_Listener demands, by its key.  Blocks.

    :raises ConfigError: where a token cannot be used, or a package is not installed.
    """
    problems = _missing_packages(config)
    accesses = {}
    for listen in config.status_listens:
        settings = config.resolve(listen, None)
        try:
            accesses[listen.key] = Access.of(listen, settings, read_token(settings, "token_file"))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            problems.append(problem_at(settings, "token_file", f"{settings.token_file}: {reason}"))
    if problems:
        raise ConfigError(problems)
    return accesses


def _missing_packages(config: Config) -> list[Problem]:
    if not config.status_listens:
        return []  # they need not even be looked for
    missing = []
    for module in ("starlette.applications", "prometheus_client"):
        try:
            importlib.import_module(module)
        except ImportError:
            missing.append(module.partition(".")[0])
    if not missing:
        return []
    text = f"needs {', '.join(missing)}: pip install 'triosmtp[status]'"
    return [listen.problem(f'Listen "{listen.name}" of a Status_Listener {text}') for listen in config.status_listens]
