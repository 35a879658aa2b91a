"""HTTP/1.1 over one stream, for an ASGI application (https://asgi.readthedocs.io).

h11 implements the protocol, this module the limits: one client can use one connection, one request of
:data:`MAX_HEAD_SIZE` and :data:`MAX_BODY_SIZE`, and the time-outs below.  A response has no time limit while the client
reads it, as server-sent events need.
"""

import logging
from collections.abc import Callable, Iterable
from email.utils import formatdate
from http.client import responses
from typing import Any, Final
from urllib.parse import unquote

import h11
import trio

from triosmtp.status.asgi import Application, Message, Scope, error_response

__all__ = ["MAX_BODY_SIZE", "MAX_HEAD_SIZE", "serve_http"]

_log = logging.getLogger("triosmtp.status")

MAX_HEAD_SIZE: Final = 16384
MAX_BODY_SIZE: Final = 65536
_REQUEST_TIMEOUT: Final = 10.0
"""Seconds for a request from its first byte, and from a new connection to that byte."""
_IDLE_TIMEOUT: Final = 75.0
"""Seconds between requests: longer than the scrape interval of Prometheus."""
_SEND_TIMEOUT: Final = 20.0
"""Seconds for a client to read one piece of a response."""
_READ_SIZE: Final = 16384


async def serve_http(
    stream: trio.abc.Stream, application: Application, *, client: tuple[str, int] | None, closing: Callable[[], bool]
) -> None:
    """Serve the requests of one connection until it ends.  Do not close ``stream``; raise only Cancelled.

    ``client`` is the peer's address; if ``closing`` returns True, the request is the last one.
    """
    connection = _Connection(stream, client)
    try:
        while await connection.exchange(application, closing):
            pass
    except trio.TooSlowError:
        _log.debug("%s: timed out", client)
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        _log.debug("%s disconnected: %r", client, error)


class _Connection:
    def __init__(self, stream: trio.abc.Stream, client: tuple[str, int] | None) -> None:
        self._stream = stream
        self._client = client
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_SIZE)
        self._timeout = _REQUEST_TIMEOUT

    async def exchange(self, application: Application, closing: Callable[[], bool]) -> bool:
        """Read one request and respond; return whether another one may follow.

        :raises trio.TooSlowError: if the client is too slow to send or to read.
        :raises trio.BrokenResourceError: if the client has gone.
        """
        try:
            request = await self._read_head()
            if request is None:
                return False
            with trio.fail_after(_REQUEST_TIMEOUT):
                body = await self._read_body()
            if body is None:
                await self._send(error_response(413))
                return False
            response = _Response(self, request, body, last=closing())
            scope = _scope(request, self._client)
        except h11.RemoteProtocolError as error:
            await self._send(error_response(error.error_status_hint))
            return False
        if not await self._run(application, scope, response):
            return False
        if response.pipelined or self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        self._timeout = _IDLE_TIMEOUT
        return True

    async def _run(self, application: Application, scope: Scope, response: "_Response") -> bool:
        """Run the application; return whether it responded."""
        responded = failed = False
        try:
            await application(scope, response.receive, response.send)
            responded = True
        except* (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            response.begun = True  # the client does not read the rest
        except* Exception:  # noqa: BLE001 - a request that fails must not end the server
            _log.exception("%s %s failed", scope["method"], scope["path"][:200])
            failed = True
        if failed and not response.begun:
            await self._send(error_response(500))
        return responded

    async def _read_head(self) -> h11.Request | None:
        if not self._http.trailing_data[0]:
            with trio.fail_after(self._timeout):
                self._http.receive_data(bytes(await self._stream.receive_some(_READ_SIZE)))
        with trio.fail_after(_REQUEST_TIMEOUT):
            event = await self._next()
        return event if isinstance(event, h11.Request) else None

    async def _read_body(self) -> bytes | None:
        """Return the body of a request, or None if it is too long."""
        body = bytearray()
        if self._http.they_are_waiting_for_100_continue:
            await self.emit(h11.InformationalResponse(status_code=100, headers=[]))
        while isinstance(event := await self._next(), h11.Data):
            body += event.data
            if len(body) > MAX_BODY_SIZE:
                return None
        return bytes(body)

    async def _next(self) -> Any:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(bytes(await self._stream.receive_some(_READ_SIZE)))
        return event

    async def emit(self, *events: Any) -> None:
        """Send events of h11 in one piece."""
        await self._send(b"".join(self._http.send(event) or b"" for event in events))

    async def _send(self, data: bytes) -> None:
        with trio.fail_after(_SEND_TIMEOUT):
            await self._stream.send_all(data)

    async def wait_gone(self) -> None:
        """Wait until the client is gone, or sends what it should have sent after the response."""
        try:
            await self._stream.receive_some(1)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return


class _Response:
    """The ``receive`` and ``send`` of ASGI for one request."""

    def __init__(self, connection: _Connection, request: h11.Request, body: bytes, *, last: bool) -> None:
        self._connection = connection
        self._body: bytes | None = body
        self._head = request.method == b"HEAD"
        self._last = last
        self._start: Message | None = None
        self.begun = False
        """Whether anything was sent."""
        self.pipelined = False
        """Whether the client sent data or left before the response was complete.  Then the connection ends."""

    async def receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._connection.wait_gone()
        self.pipelined = True
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        events: list[Any] = []
        if self._start is not None:
            events.append(_response(self._start["status"], self._start.get("headers", ()), last=self._last))
            self._start, self.begun = None, True
        body = message.get("body", b"")
        if body and not self._head:
            events.append(h11.Data(data=body))
        if not message.get("more_body", False):
            events.append(h11.EndOfMessage())
        await self._connection.emit(*events)


def _response(status: int, headers: Iterable[tuple[bytes, bytes]], *, last: bool) -> h11.Response:
    fields = [*headers, (b"date", formatdate(usegmt=True).encode("ascii"))]  # RFC 9110, section 6.6.1
    if last:
        fields.append((b"connection", b"close"))
    return h11.Response(status_code=status, headers=fields, reason=responses.get(status, ""))


def _scope(request: h11.Request, client: tuple[str, int] | None) -> Scope:
    """Return the connection scope of ASGI.

    :raises h11.RemoteProtocolError: if the target is not a path.
    """
    path, _, query = request.target.partition(b"?")
    if not path.startswith(b"/"):
        raise h11.RemoteProtocolError("the target is not a path")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": request.http_version.decode("ascii"),
        "method": request.method.decode("ascii"),
        "scheme": "http",
        "path": unquote(path.decode("ascii", "replace"), errors="replace"),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": [(bytes(name), bytes(value)) for name, value in request.headers],
        "client": client,
        "server": None,
        "state": {},
    }
