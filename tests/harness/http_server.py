"""An HTTP server of the tests: it records requests, and answers as a test says, right or wrong."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

import h11
import trio
from attrs import Factory, define, field, frozen


@frozen
class Request:
    """A request that was read completely."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        return next((value for each, value in self.headers if each == name.lower()), "")


Answer: TypeAlias = Callable[["HTTPServer", trio.abc.Stream, Request], Awaitable[None]]


def answer(body: bytes | str = b"", status: int = 200, *headers: tuple[str, str]) -> Answer:
    """Answer with this status and body, and close the connection."""
    octets = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(octets)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers]
    return raw("\r\n".join([*lines, "", ""]).encode() + octets)


def raw(octets: bytes) -> Answer:
    """Answer with these octets, and close the connection."""

    async def send(_server: "HTTPServer", stream: trio.abc.Stream, _request: Request) -> None:
        await stream.send_all(octets)

    return send


def asgi(application: Any) -> Answer:
    """Answer as an ASGI application does."""

    async def call(_server: "HTTPServer", stream: trio.abc.Stream, request: Request) -> None:
        headers = [(name.encode(), value.encode()) for name, value in request.headers]
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": request.method,
            "scheme": "http", "path": request.target, "raw_path": request.target.encode(), "query_string": b"",
            "headers": headers, "root_path": "",
        }  # fmt: skip
        sent: dict[str, Any] = {"status": 500, "body": b""}

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": request.body, "more_body": False}

        async def send(event: dict[str, Any]) -> None:
            sent["status"] = event.get("status", sent["status"])
            sent["body"] += event.get("body", b"")

        await application(scope, receive, send)
        await answer(sent["body"], sent["status"])(_server, stream, request)

    return call


async def nothing(_server: "HTTPServer", _stream: trio.abc.Stream, _request: Request) -> None:
    """Close the connection without an answer."""


async def silence(_server: "HTTPServer", stream: trio.abc.Stream, _request: Request) -> None:
    """Wait until the client has gone."""
    while await stream.receive_some(1000):
        pass


@define
class HTTPServer:
    """A server on a loopback port.  ``answer`` can be changed at any time."""

    answer: Answer
    port: int = 0
    tls: ssl.SSLContext | None = None
    requests: list[Request] = Factory(list)
    connections: int = 0
    begun: trio.Event = field(factory=trio.Event)
    """Set when the first request was read."""
    refuse_early: bytes = b""
    """An answer that is sent when the header of a request has arrived, before its body."""

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}"

    async def serve(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        try:
            async with stream:
                request = await self._read(stream)
                if request is not None:
                    self.requests.append(request)
                    self.begun.set()
                    await self.answer(self, stream, request)
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            return

    async def _read(self, stream: trio.abc.Stream) -> Request | None:
        connection = h11.Connection(h11.SERVER)
        head: h11.Request | None = None
        body = b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some(65536)))
            elif isinstance(event, h11.Request):
                head = event
                if self.refuse_early:
                    await stream.send_all(self.refuse_early)
                    return None
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                headers = [(name.decode(), value.decode("utf-8", "replace")) for name, value in head.headers]
                return Request(head.method.decode(), head.target.decode(), headers, body)
            else:
                return None


@asynccontextmanager
async def http_server(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[HTTPServer]:
    """Serve until the block is left."""
    server = HTTPServer(answer, tls=tls)
    async with trio.open_nursery() as nursery:
        if tls is None:
            listeners = await nursery.start(partial(trio.serve_tcp, server.serve, 0, host="127.0.0.1"))
        else:
            over = partial(trio.serve_ssl_over_tcp, server.serve, 0, tls, host="127.0.0.1", https_compatible=True)
            listeners = await nursery.start(over)
        listener = listeners[0]
        sock = getattr(listener, "transport_listener", listener).socket
        server.port = sock.getsockname()[1]
        yield server
        nursery.cancel_scope.cancel()
