"""A proxy in front of a Unix socket that cuts the connection after a number of octets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

import trio
from attrs import define

Direction = Literal["to", "from"]


@define(eq=False)
class CuttingProxy:
    """Passes everything on, up to ``limit`` octets to or from the server; then it cuts both ends."""

    target: Path
    limit: int | None = None
    """Of each connection; None: no limit."""
    direction: Direction = "to"
    passed: int = 0
    """Octets in this direction, of the connection that was used last."""
    connections: int = 0

    async def serve(self, client: trio.SocketStream) -> None:
        self.connections += 1
        counted = [0]
        try:
            async with await trio.open_unix_socket(str(self.target)) as server, trio.open_nursery() as nursery:
                nursery.start_soon(self._send, client, server, counted)
                await self._receive(server, client, counted)
                nursery.cancel_scope.cancel()
        finally:
            await trio.aclose_forcefully(client)

    async def _send(self, client: trio.SocketStream, server: trio.SocketStream, counted: list[int]) -> None:
        """Pass on what the client sends, then the end."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in client:
                part = self._within("to", data, counted)
                await server.send_all(part)
                if len(part) < len(data):
                    break
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await server.send_eof()
        await trio.aclose_forcefully(client)

    async def _receive(self, server: trio.SocketStream, client: trio.SocketStream, counted: list[int]) -> None:
        """Pass on what the server sends.  It is read to its end, so that the server is never cut."""
        with suppress(trio.BrokenResourceError):
            async for data in server:
                part = self._within("from", data, counted)
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await client.send_all(part)
                if len(part) < len(data):
                    await trio.aclose_forcefully(client)

    def _within(self, direction: Direction, data: bytes | bytearray, counted: list[int]) -> bytes | bytearray:
        if direction != self.direction:
            return data
        part = data if self.limit is None else data[: max(self.limit - counted[0], 0)]
        counted[0] += len(part)
        self.passed = counted[0]
        return part


@asynccontextmanager
async def cutting_proxy(path: Path, target: Path) -> AsyncIterator[CuttingProxy]:
    """Serve on a Unix socket until the block ends."""
    proxy = CuttingProxy(target)
    with trio.socket.socket(trio.socket.AF_UNIX) as sock:
        await sock.bind(str(path))
        sock.listen(100)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, proxy.serve, [trio.SocketListener(sock)])
            yield proxy
            nursery.cancel_scope.cancel()
