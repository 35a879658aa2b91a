"""A TCP proxy on loopback that can cut its connections off: nothing passes, and nothing is closed."""

import trio

__all__ = ["TCPProxy"]


class TCPProxy:
    """Passes connections on to a port.  While it is cut, octets wait, and new connections get no answer."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open = trio.Event()
        self._open.set()
        self.port = 0

    def cut(self) -> None:
        """Let nothing pass from now on."""
        self._open = trio.Event()

    def heal(self) -> None:
        """Let everything pass again, what has waited first."""
        self._open.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._pass, listeners)

    async def _pass(self, client: trio.SocketStream) -> None:
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self._target)
        except OSError:
            await trio.aclose_forcefully(client)
            return
        async with server, client, trio.open_nursery() as nursery:
            nursery.start_soon(self._copy, client, server, nursery)
            nursery.start_soon(self._copy, server, client, nursery)

    async def _copy(self, source: trio.SocketStream, target: trio.SocketStream, nursery: trio.Nursery) -> None:
        try:
            while data := await source.receive_some(65536):
                await self._open.wait()
                await target.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        await self._open.wait()  # while it is cut, the other end is not notified either
        nursery.cancel_scope.cancel()
