"""A server with a Status_Listener in this process, and `triosmtp serve` as a process; HTTP as plain bytes."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio
from attrs import define
from serve_process import ServeProcess, run_cleanly

from triosmtp.config import parse_config
from triosmtp.histogram import Histogram
from triosmtp.server.server import Server, serve
from triosmtp.status.status_listener import StatusListener
from triosmtp.status.status_source import ServerSource

MAIL = 'ESMTP_Listener { Listen "127.0.0.1:0" { Relay_Domains = ( "example.org" ) Deliver_To = "discard:" } }'
STATUS = 'Status_Listener { Listen "127.0.0.1:0" { } }'


@define
class Serving:
    """The running server."""

    server: Server
    status: StatusListener
    nursery: trio.Nursery

    @property
    def port(self) -> int:
        (place,) = self.status.addresses.values()
        assert not isinstance(place, str)
        return place[1]

    @property
    def mail_port(self) -> int:
        return next(iter(self.server.addresses.values()))[1]

    async def reload(self, text: str) -> None:
        config = parse_config(text)
        prepared = self.status.prepare(config)
        await self.server.reload(config)
        self.status.apply(prepared, self.nursery)


@asynccontextmanager
async def serving(text: str = f"{MAIL} {STATUS}") -> AsyncIterator[Serving]:
    """Serve a configuration as `triosmtp serve` does, until the block is left."""
    config = parse_config(text)
    status = StatusListener()
    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(partial(serve, config, observers=(status.subscription,)))
        status.attach(ServerSource(server))
        status.apply(status.prepare(config), nursery)
        try:
            yield Serving(server, status, nursery)
        finally:
            status.close()
            nursery.cancel_scope.cancel()


@define
class Response:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: str


def parse(data: bytes) -> Response:
    """Read one whole answer."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *fields = head.decode().split("\r\n")
    assert first.startswith("HTTP/1.1 "), data
    headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    return Response(int(first.split(" ")[1]), headers, body.decode())


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    """Read to the end."""
    with trio.fail_after(30):
        return b"".join([bytes(chunk) async for chunk in stream])


async def ask(port: int, request: bytes) -> Response:
    """Send the bytes of a request, and read until the server closes."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(request)
        return parse(await read_all(stream))


async def get(port: int, path: str, host: str = "localhost", *fields: str) -> Response:
    """Ask for a path."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: close", *fields, "", ""]
    return await ask(port, "\r\n".join(lines).encode())


@contextmanager
def daemon(folder: Path, text: str) -> Iterator[ServeProcess]:
    """Run `triosmtp serve` with this configuration until the block is left; it must end well."""
    config = folder / "server.conf"
    config.write_text(text)
    with run_cleanly("-c", str(config), log=folder / "log", control=folder / "control") as server:
        yield server


class NoSource:
    """A service in which nothing is."""

    def ready(self) -> bool:
        return True

    def state(self) -> str:
        return "serving"

    def workers(self) -> dict[str, int]:
        return {}

    def worker_deaths(self) -> int:
        return 0

    def worker_list(self) -> list[dict[str, Any]]:
        return []

    def sessions_by_listener(self) -> dict[str, int]:
        return {}

    async def sessions(self) -> list[dict[str, Any]]:
        return []

    async def session(self, session: str) -> dict[str, Any] | None:
        return None

    async def certificates(self) -> list[dict[str, Any]]:
        return []

    def revocation_lists(self) -> dict[str, float]:
        return {}

    def certificate_problems(self) -> list[dict[str, Any]]:
        return []

    def policy_groups(self) -> list[dict[str, Any]]:
        return []

    def policy_latencies(self) -> dict[str, Histogram]:
        return {}

    async def targets(self) -> list[dict[str, Any]]:
        return []

    async def remembered_recipients(self) -> int:
        return 0

    def lost_events(self) -> dict[str, int]:
        return {}

    def handshakes_under_way(self) -> int:
        return 0
