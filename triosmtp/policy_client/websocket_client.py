"""The client of the policy service: one connection, its handlers, and reconnection."""

import json
import logging
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from inspect import iscoroutinefunction
from typing import Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

import trio
import trio_websocket

from triosmtp.errors import Reject, TrioSMTPError
from triosmtp.policy.interface import DISCARD, DONE, PHASES
from triosmtp.policy_client.policy_request import (
    Decision,
    MessageBody,
    Notification,
    PolicyRequest,
    TLSVariables,
    make_result,
)
from triosmtp.policy_client.reconnect_delay import ReconnectDelay
from triosmtp.policy_service.json_rpc import PROTOCOL, ErrorCode
from triosmtp.policy_service.registration import NOTIFICATIONS
from triosmtp.sockets.unix_client import connect_unix_socket

__all__ = [
    "DISCARD", "DONE", "Decision", "MessageBody", "Notification", "PolicyClient", "PolicyClientError", "PolicyRequest",
    "PolicyRequestError", "TLSVariables",
]  # fmt: skip

_log = logging.getLogger("triosmtp.policy_client")

_H = TypeVar("_H", bound=Callable[..., Awaitable[object]])

_CONNECT_TIMEOUT: Final = 10.0
_PING_INTERVAL: Final = 20.0
_MAX_MESSAGE_SIZE: Final = 8 * 1024 * 1024
_MAX_QUEUED_NOTIFICATIONS: Final = 10_000
_MAX_SESSIONS: Final = 100_000
_MAX_RUNNING_HANDLERS: Final = 1000


class PolicyClientError(TrioSMTPError):
    """The server refuses this client for good: the token, the subprotocol or the registration is wrong."""


class PolicyRequestError(TrioSMTPError):
    """The server refused a request; ``code`` is that of the JSON-RPC error."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(f"{message} ({code})")


class PolicyClient:
    """One policy client.

    ``url`` is ``ws://host:port/``, ``wss://host:port/`` or ``unix:/path``; ``ssl_context`` is for ``wss`` with
    a private authority or a client certificate.  With handlers for phases it is a decider, else an observer.

    ``variables`` are patterns that select variables of the connection context, and ``message_variables`` those of the
    message context (by default the same patterns).  ``peers`` (CIDR blocks) and ``listeners`` (names of Listens) select
    sessions; without them, all are selected.  With ``changed_only`` the server sends only changes, and the client
    restores the whole contexts.  ``bodies`` requests the messages themselves in ``session.phase``; it needs the token
    of Admin_Token_File, and a Unix socket or TLS.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        group: str = "",
        token: str | None = None,
        mode: Literal["enforce", "shadow"] = "enforce",
        variables: Iterable[str] = ("*",),
        message_variables: Iterable[str] | None = None,
        peers: Iterable[str] = (),
        listeners: Iterable[str] = (),
        changed_only: bool = False,
        bodies: bool = False,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.url = url
        self.server: dict[str, Any] = {}
        """The result of ``initialize``: version, limits and deadlines of the server."""
        self.lost = 0
        """Notifications that were lost, here or at the server, because they came faster than they were handled."""
        self._name = name
        self._group = group
        self._token = token
        self._mode = mode
        self._parameters: dict[str, object] = {"bodies": True} if bodies else {}
        self._parameters |= {"variables": list(variables), "peers": list(peers), "listeners": list(listeners)}
        if message_variables is not None:
            self._parameters["message_variables"] = list(message_variables)
        self._changed_only = changed_only
        self._ssl_context = ssl_context
        self._handlers: dict[str, Callable[..., Awaitable[object]]] = {}
        self._notification_handlers: list[tuple[tuple[str, ...], Callable[..., Awaitable[object]]]] = []
        self._connection: Any = None
        self._pending: dict[int, _PendingRequest] = {}
        self._last_number = 0
        self._contexts: OrderedDict[str, tuple[dict[str, str], dict[str, str]]] = OrderedDict()

    # Handlers

    def on(self, *phases: str) -> Callable[[_H], _H]:
        """Register an async function that decides at ``phases`` about a :class:`PolicyRequest`.

        It returns None to continue, DONE, DISCARD or a :class:`Decision`, or raises :class:`~triosmtp.Reject`.  Any
        other exception is logged, and the server applies its fallback.

        :raises ValueError: if there is no such phase, or it has a handler already.
        :raises TypeError: if it is not an async function.
        """

        def register(handler: _H) -> _H:
            _check_async(handler)
            for phase in phases:
                if phase not in PHASES or phase in self._handlers:
                    why = "has a handler already" if phase in self._handlers else f"is none of {', '.join(PHASES)}"
                    raise ValueError(f"phase {phase!r} {why}")
                self._handlers[phase] = handler
            return handler

        return register

    def notification(self, *patterns: str) -> Callable[[_H], _H]:
        """Register an async function for notifications that match ``patterns``, such as ``session.*``.

        It is called with one :class:`Notification` at a time, in their order.  ``session.phase`` must be named in full.

        :raises ValueError: if a pattern matches nothing.
        :raises TypeError: if it is not an async function.
        """
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in NOTIFICATIONS):
                raise ValueError(f"{pattern!r} matches no notification: there are {', '.join(NOTIFICATIONS)}")

        def register(handler: _H) -> _H:
            _check_async(handler)
            self._notification_handlers.append((patterns, handler))
            return handler

        return register

    # Running

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled, and connect again whenever the connection is lost.

        The first attempt comes within 0.05 s, and two attempts are at most two seconds apart, so that a server which is
        started again soon has its deciders.  ``task_status.started()`` is called when the server has accepted the
        client for the first time.

        :raises PolicyClientError: if the server refuses the client.
        """
        delay, logged = ReconnectDelay(), ""
        started = False

        def on_connected() -> None:
            nonlocal started
            delay.note_connected(trio.current_time())
            if not started:
                started = True
                task_status.started()
            elif logged:
                _log.info("%s: connected again", self.url)

        while True:
            try:
                await self.run_on(await self._open(), on_connected=on_connected)
                why = "the connection was lost"
            except (OSError, trio.BrokenResourceError, trio.TooSlowError, ssl.SSLError) as error:
                why = str(error) or type(error).__name__
            if delay.note_end(trio.current_time()) or why != logged:  # a server that is away is one line
                _log.warning("%s: %s", self.url, why)
                logged = why
            await trio.sleep(delay.take())

    async def run_on(self, stream: trio.abc.Stream, *, on_connected: Callable[[], object] = lambda: None) -> None:
        """Serve one connection over ``stream`` until it is lost.

        ``on_connected`` is called when the server has accepted the client.

        :raises PolicyClientError: if the server refuses the client.
        """
        try:
            async with self._connected(stream):
                on_connected()
                await trio.sleep_forever()
        except trio.BrokenResourceError as error:
            _log.debug("%s: %s", self.url, error)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator["PolicyClient"]:
        """Connect once until the block ends, to make requests.

        :raises PolicyClientError: if the server refuses the client.
        :raises OSError: if it cannot be reached.
        """
        async with self._connected(await self._open()):
            yield self

    async def request(self, method: str, **params: object) -> Any:
        """Make a control request, such as ``session.list``, and return its result.

        :raises PolicyRequestError: if the server refuses it.
        :raises trio.BrokenResourceError: if there is no connection, or it is lost before the result.
        """
        if self._connection is None:
            raise trio.BrokenResourceError("not connected")
        return await self._request(self._connection, method, params)

    # One connection

    @asynccontextmanager
    async def _connected(self, stream: trio.abc.Stream) -> AsyncIterator[None]:
        parts = urlsplit(self.url)
        headers = [] if self._token is None else [(b"Authorization", b"Bearer " + self._token.encode())]
        ended = closing = False
        try:
            async with trio.open_nursery() as nursery:
                with trio.fail_after(_CONNECT_TIMEOUT):
                    connection = await trio_websocket.wrap_client_stream(
                        nursery,
                        stream,  # type: ignore[arg-type]  # any stream will do
                        parts.hostname or "localhost",
                        parts.path if parts.scheme != "unix" and parts.path else "/",
                        subprotocols=[PROTOCOL],
                        extra_headers=headers,
                        max_message_size=_MAX_MESSAGE_SIZE,
                        receive_buffer_size=65536,
                        message_queue_size=16,
                    )
                send, receive = trio.open_memory_channel[Notification](_MAX_QUEUED_NOTIFICATIONS)
                nursery.start_soon(self._dispatch_notifications, receive)
                nursery.start_soon(_ping, connection)
                scope = nursery.cancel_scope

                async def read() -> None:
                    nonlocal ended
                    await self._read(connection, send)
                    ended = not closing
                    scope.cancel()

                nursery.start_soon(read)
                with trio.fail_after(_CONNECT_TIMEOUT):
                    self.server = await self._initialize(connection)
                self._connection = connection
                yield
                closing = True
                with trio.move_on_after(2):
                    await connection.aclose()
                scope.cancel()
            if ended:
                raise trio.BrokenResourceError("the connection was lost")
        except (BaseExceptionGroup, trio_websocket.HandshakeError, trio_websocket.ConnectionClosed) as error:
            raise _unwrap(error) from None
        finally:
            self._connection = None
            for reply in self._pending.values():
                reply.fail()
            self._pending.clear()
            self._contexts.clear()
            await trio.aclose_forcefully(stream)

    async def _open(self) -> trio.abc.Stream:
        parts = urlsplit(self.url)
        with trio.fail_after(_CONNECT_TIMEOUT):
            if parts.scheme == "unix":
                return await connect_unix_socket(parts.path)
            if parts.scheme not in {"ws", "wss"} or not parts.hostname:
                raise PolicyClientError(f"{self.url}: expected ws://host:port/, wss://host:port/ or unix:/path")
            port = parts.port or (443 if parts.scheme == "wss" else 80)
            stream: trio.abc.Stream = await trio.open_tcp_stream(parts.hostname, port)
            if parts.scheme == "wss":
                context = self._ssl_context or ssl.create_default_context()
                tls = trio.SSLStream(stream, context, server_hostname=parts.hostname, https_compatible=True)
                await tls.do_handshake()
                stream = tls
            return stream

    async def _initialize(self, connection: Any) -> dict[str, Any]:
        params: dict[str, Any] = {"name": self._name, **self._parameters, "changed_only": self._changed_only}
        if self._handlers:
            params |= {"role": "decider", "group": self._group, "mode": self._mode}
            params["phases"] = [phase for phase in PHASES if phase in self._handlers]
        elif self._group:
            params["group"] = self._group
        params["notifications"] = sorted(
            {pattern for patterns, _ in self._notification_handlers for pattern in patterns}
        )
        try:
            result: dict[str, Any] = await self._request(connection, "initialize", params)
        except PolicyRequestError as error:
            raise PolicyClientError(f"{self.url}: {error}") from None
        return result

    async def _request(self, connection: Any, method: str, params: object) -> Any:
        self._last_number += 1
        number = self._last_number
        reply = self._pending[number] = _PendingRequest()
        try:
            await _send(connection, {"jsonrpc": "2.0", "id": number, "method": method, "params": params})
            return await reply.wait()
        finally:
            self._pending.pop(number, None)

    async def _read(self, connection: Any, notes: "trio.MemorySendChannel[Notification]") -> None:
        running = trio.Semaphore(_MAX_RUNNING_HANDLERS)
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    message = json.loads(await connection.get_message())
                except trio_websocket.ConnectionClosed:
                    break
                if "method" not in message:
                    self._settle_response(message)
                elif "id" in message:
                    await running.acquire()
                    nursery.start_soon(self._answer_request, connection, message, running)
                else:
                    self._enqueue_notification(Notification(message["method"], message["params"]), notes)
            nursery.cancel_scope.cancel()

    def _settle_response(self, message: dict[str, Any]) -> None:
        number = message.get("id")
        reply = self._pending.get(number) if isinstance(number, int) else None
        if reply is None:
            _log.warning("%s: error from the server: %s", self.url, message.get("error"))
        elif "error" in message:
            error = message["error"]
            reply.settle(PolicyRequestError(error["code"], error["message"]))
        else:
            reply.settle(message["result"])

    def _enqueue_notification(self, note: Notification, notes: "trio.MemorySendChannel[Notification]") -> None:
        self.lost += note.params.get("lost", 0)
        try:
            notes.send_nowait(note)
        except trio.WouldBlock:
            self.lost += 1

    async def _dispatch_notifications(self, notes: "trio.MemoryReceiveChannel[Notification]") -> None:
        async for note in notes:
            for patterns, handler in self._notification_handlers:
                if any(fnmatchcase(note.method, pattern) for pattern in patterns):
                    try:
                        await handler(note)
                    except Exception:  # noqa: BLE001 - a handler that fails must not stop the others
                        _log.exception("the handler of %s failed", note.method)

    async def _answer_request(self, connection: Any, message: dict[str, Any], running: trio.Semaphore) -> None:
        number, params = message["id"], message["params"]

        async def fetch(method: str, **more: object) -> Any:
            return await self._request(connection, method, more)

        try:
            request = self._make_request(number, params, fetch)
            with trio.move_on_after(params["deadline_ms"] / 1000):
                result = await self._decide(request)
                await _send(connection, {"jsonrpc": "2.0", "id": number, **result})
        except trio_websocket.ConnectionClosed:
            pass  # the server asks another one
        finally:
            running.release()

    async def _decide(self, request: PolicyRequest) -> dict[str, Any]:
        handler = self._handlers.get(request.phase)
        try:
            answer = None if handler is None else await handler(request)
            return {"result": make_result(request, answer)}
        except Reject as reject:
            return {"result": make_result(request, reject)}
        except Exception:  # noqa: BLE001 - if a handler fails, the server applies its fallback
            _log.exception("the handler of %s failed", request.phase)
            return {"error": {"code": ErrorCode.FAILED, "message": "the handler failed"}}

    def _make_request(self, number: str, params: dict[str, Any], fetch: Callable[..., Awaitable[Any]]) -> PolicyRequest:
        connection, message = params["variables"], params["message_variables"]
        if self._changed_only:
            known = self._contexts.setdefault(params["session"], ({}, {}))
            for context, changes in zip(known, (connection, message), strict=True):
                context.update(changes)
                for name in [name for name, value in changes.items() if value is None]:
                    del context[name]
            if len(self._contexts) > _MAX_SESSIONS:
                self._contexts.popitem(last=False)
            connection, message = dict(known[0]), dict(known[1])
        return PolicyRequest(
            id=number,
            session=params["session"],
            phase=params["phase"],
            peer=params["peer"],
            listener=params["listener"],
            variables=connection,
            message_variables=message,
            arguments=params["arguments"],
            deadline_ms=params["deadline_ms"],
            fetch=fetch,
        )


class _PendingRequest:
    """The answer to a request of this client."""

    def __init__(self) -> None:
        self._done = trio.Event()
        self._value: Any = None

    def settle(self, value: object) -> None:
        self._value = value
        self._done.set()

    def fail(self) -> None:
        self.settle(trio.BrokenResourceError("the connection was lost"))

    async def wait(self) -> Any:
        await self._done.wait()
        if isinstance(self._value, Exception):
            raise self._value
        return self._value


async def _send(connection: Any, message: dict[str, Any]) -> None:
    await connection.send_message(json.dumps(message, separators=(",", ":")))


async def _ping(connection: Any) -> None:
    while True:
        await trio.sleep(_PING_INTERVAL)
        with trio.fail_after(_PING_INTERVAL):
            await connection.ping()


def _check_async(handler: Callable[..., object]) -> None:
    if not iscoroutinefunction(handler):
        raise TypeError(f"{handler!r} is not an async function")


def _unwrap(error: BaseException) -> BaseException:
    """Return the error within exception groups, as an exception that the caller handles."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, trio_websocket.ConnectionRejected):
        body = (error.body or b"").decode("utf-8", "replace").strip()[:200]
        text = f"the server refuses with {error.status_code}: {body}"
        final = 400 <= error.status_code < 500
        return PolicyClientError(text) if final else trio.BrokenResourceError(text)
    if isinstance(error, trio_websocket.HandshakeError | trio_websocket.ConnectionClosed):
        return trio.BrokenResourceError(f"{type(error).__name__}: {error}")
    return error
