"""The websocket of one policy client: the upgrade, one task that reads, one that writes, and one that pings.

Only this module and ``policy_client/websocket_client.py`` import trio_websocket.  The library writes control frames;
the hub writes text frames to the same stream, already encoded.

A client is alive if it answers a ping in time, or if it reads: then the kernel takes more data after its buffer was
full.  So a slow client is not dropped while frames wait for it, although its pong comes late.
"""

import logging
from typing import TYPE_CHECKING, Any, Final

import trio
import trio_websocket

from triosmtp.policy_service.client_access import ClientAccess, UpgradeRefusedError, authorize
from triosmtp.policy_service.connected_client import BINARY_FRAME, CloseReason, ConnectedClient
from triosmtp.policy_service.json_rpc import PROTOCOL

if TYPE_CHECKING:
    from triosmtp.policy_service.hub import Hub

__all__ = ["serve_websocket"]

_log = logging.getLogger("triosmtp.policy")

_UPGRADE_TIMEOUT: Final = 10.0
_CLOSE_TIMEOUT: Final = 5.0
_READ_SIZE: Final = 65536
_MAX_QUEUED: Final = 16
"""Messages that wait to be read from the library."""
_MAX_RUNNING: Final = 64
"""Requests of one client that run at once.  Then its messages are not read."""


class SharedStream(trio.abc.Stream):
    """The stream below the library and the hub.  Each frame is sent in one piece."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._lock = trio.Lock()
        # The transports of this package can send without waiting, and continue a send that was cancelled.
        self._start_send = getattr(stream, "start_send", None)
        self._unfinished = False
        self.intact = True
        """Whether no frame was cut off by a cancellation."""
        self.reads = 0
        """How often the kernel took data after its buffer was full: so often it is sure that the client reads."""
        self.upgraded = False
        """Whether the upgrade is done.  Before that, the library ignores that the client is gone."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send data.  It is a checkpoint only if it must wait."""
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()
        try:
            if self._start_send is None:
                self.intact = False
                await self._stream.send_all(data)
                self.intact = True
                return
            if self._unfinished:
                await self._finish_send()
            if data and not self._start_send(data):
                self._unfinished = True
                await self._finish_send()
        finally:
            self._lock.release()

    async def _finish_send(self) -> None:
        await self._stream.finish_send()  # type: ignore[attr-defined]  # what has start_send has this
        self._unfinished = False
        self.reads += 1

    def send_now(self, data: bytes) -> tuple[bool, bool]:
        """Send data without waiting; return whether it was taken, and whether :meth:`send_all` must send the rest."""
        if self._start_send is None or self._unfinished or self._lock.locked():
            return False, False
        try:
            self._unfinished = not self._start_send(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False, False  # the task that writes meets the same error
        return True, self._unfinished

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until data can be sent."""
        async with self._lock:
            await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive data.

        :raises ConnectionResetError: if the client has closed the connection before the upgrade.
        """
        try:
            data = await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError:
            if self.upgraded:
                raise
            data = b""
        if not data and not self.upgraded:
            raise ConnectionResetError("the client closed the connection before the upgrade")
        return data

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()


async def serve_websocket(hub: "Hub", stream: trio.abc.Stream, access: ClientAccess) -> None:
    """Serve one client until it disconnects, then close the stream.  Raise only cancellation."""
    shared = SharedStream(stream)
    try:
        async with trio.open_nursery() as nursery:
            await _upgrade(hub, shared, access, nursery)
            nursery.cancel_scope.cancel()
    except* (trio_websocket.ConnectionClosed, trio_websocket.HandshakeError, OSError) as group:
        _log.debug("policy client %s: %r", access.peer, group.exceptions)
    except* (trio.BrokenResourceError, trio.ClosedResourceError) as group:
        _log.debug("policy client %s: connection lost: %r", access.peer, group.exceptions)
    except* UnicodeError:
        # The library decodes header fields as ASCII before it checks them.
        hub.report_refused(access, "the upgrade is not ASCII")
    except* Exception as group:  # noqa: BLE001 - the failure of one client must not end the server
        _log.error("policy client %s failed", access.peer, exc_info=group)
    finally:
        await trio.aclose_forcefully(stream)


async def _upgrade(hub: "Hub", shared: SharedStream, access: ClientAccess, nursery: trio.Nursery) -> None:
    with trio.move_on_after(_UPGRADE_TIMEOUT) as scope:
        request = await trio_websocket.wrap_server_stream(
            nursery,
            shared,
            message_queue_size=_MAX_QUEUED,
            max_message_size=hub.limits.message_bytes,
            receive_buffer_size=_READ_SIZE,
        )
        try:
            admin = authorize(access, request.headers, request.proposed_subprotocols)
        except UpgradeRefusedError as refused:
            hub.report_refused(access, f"{refused.status} {refused.reason}")
            challenge = [(b"WWW-Authenticate", b"Bearer")] if refused.status == 401 else []
            await request.reject(refused.status, extra_headers=challenge, body=f"{refused.reason}\n".encode())
            return
        connection = await request.accept(subprotocol=PROTOCOL)
        shared.upgraded = True
    if scope.cancelled_caught:
        hub.report_refused(access, "no upgrade came in time")
        return
    await _serve_client(hub, connection, shared, access, admin=admin)


async def _serve_client(
    hub: "Hub", connection: Any, shared: SharedStream, access: ClientAccess, *, admin: bool
) -> None:
    async with trio.open_nursery() as nursery:
        client = hub.add_client(access, admin=admin, disconnect=nursery.cancel_scope.cancel)

        def send_now(data: bytes) -> bool:
            taken, unfinished = shared.send_now(data)
            if unfinished:
                client.outbox.put_urgent(b"")  # the task that writes sends the rest
            return taken

        client.send_now = send_now
        try:
            nursery.start_soon(_write, client, shared)
            nursery.start_soon(_ping, hub, connection, client, shared)
            await _read(hub, connection, client)
            nursery.cancel_scope.cancel()
        finally:
            hub.remove_client(client)
    reason = client.close_reason
    # If a frame was cut off, the client reads the Close frame as its rest. That does no harm.
    with trio.move_on_after(_CLOSE_TIMEOUT):
        while reason.flush and shared.intact and client.outbox:
            await shared.send_all(client.outbox.take_nowait())
        await connection.aclose(code=reason.code, reason=reason.text[:100])


async def _read(hub: "Hub", connection: Any, client: ConnectedClient) -> None:
    running = trio.Semaphore(_MAX_RUNNING)

    async def receive(text: str) -> None:
        try:
            await hub.receive_message(client, text)
        finally:
            running.release()

    try:
        async with trio.open_nursery() as nursery:
            while True:
                message = await connection.get_message()
                if not isinstance(message, str):
                    client.close_reason = BINARY_FRAME
                    break
                if '"method"' not in message:
                    await hub.receive_message(client, message)  # an answer never waits
                    continue
                await running.acquire()
                nursery.start_soon(receive, message)
            nursery.cancel_scope.cancel()
    except* trio_websocket.ConnectionClosed:
        pass


async def _write(client: ConnectedClient, shared: SharedStream) -> None:
    while True:
        await shared.send_all(await client.outbox.take())


async def _ping(hub: "Hub", connection: Any, client: ConnectedClient, shared: SharedStream) -> None:
    interval = hub.limits.ping_seconds
    while True:
        await trio.sleep(interval)
        reads = shared.reads
        with trio.move_on_after(interval) as scope:
            await connection.ping()
        if scope.cancelled_caught and (shared.reads == reads or not shared.intact):
            client.drop(CloseReason("too slow: no pong came"))
