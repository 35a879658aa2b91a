"""A proxy that shows everything to a function before it passes it on, and passes nothing more once that says so."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio

__all__ = ["watching_proxy"]

Look = Callable[[str, bytes], bool]
"""Called with ``to`` or ``from`` (the server) and all octets of that connection so far; whether they are passed on."""


@asynccontextmanager
async def watching_proxy(listener: trio.SocketListener, target: Path | int, look: Look) -> AsyncIterator[None]:
    """Serve ``listener`` until the block ends; ``target`` is a Unix socket, or a port of loopback."""

    async def connect() -> trio.SocketStream:
        if isinstance(target, int):
            return await trio.open_tcp_stream("127.0.0.1", target)
        return await trio.open_unix_socket(str(target))

    async def serve(client: trio.SocketStream) -> None:
        async with client, await connect() as server, trio.open_nursery() as nursery:
            nursery.start_soon(copy, client, server, "to", nursery)
            nursery.start_soon(copy, server, client, "from", nursery)

    async def copy(source: trio.SocketStream, target: trio.SocketStream, way: str, nursery: trio.Nursery) -> None:
        seen = b""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                seen += data
                if not look(way, seen):
                    break
                await target.send_all(data)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield
        nursery.cancel_scope.cancel()
