"""The stream of one client: sends without waiting, their order, and the signs that a slow client reads."""

import socket

import pytest
import trio
import trio.testing

from triosmtp.event import PolicyClientDisconnected, ServerEvent
from triosmtp.policy_service.client_access import ClientAccess
from triosmtp.policy_service.hub import Hub
from triosmtp.policy_service.websocket_server import SharedStream
from triosmtp.sockets.transport import SocketTransport

LOCAL = ClientAccess(listener="policy", peer="unix", local=True)
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: policy.v1.triosmtp\r\n\r\n"
)


def masked(payload: bytes) -> bytes:
    """Return a text frame of a client, with a mask of zeros."""
    assert len(payload) < 126
    return b"\x81" + bytes((0x80 | len(payload),)) + bytes(4) + payload


async def register(stream: trio.abc.Stream) -> None:
    """Upgrade the connection, and register as an observer."""
    await stream.send_all(UPGRADE)
    assert b" 101 " in await stream.receive_some()
    await stream.send_all(masked(b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"name":"a"}}'))
    data = b""
    while b'"result"' not in data:
        data += await stream.receive_some()


async def receive_exactly(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await stream.receive_some(size - len(data))
    return data


async def test_a_send_without_waiting_continues_in_order_when_the_kernel_buffer_was_full() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    reader = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    shared = SharedStream(SocketTransport(ours))
    first, second, third = b"1" * 4_000_000, b"2" * 10, b"3" * 10
    assert shared.send_now(first) == (True, True)  # taken, but the rest must be sent
    assert shared.send_now(second) == (False, False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shared.send_all, second)
        assert await receive_exactly(reader, len(first) + len(second)) == first + second
    assert shared.reads == 1
    assert shared.send_now(third) == (True, False)
    assert await receive_exactly(reader, len(third)) == third
    assert shared.reads == 1  # the kernel took it at once, which says nothing about the client
    await reader.aclose()
    ours.close()


async def test_a_send_without_waiting_leaves_errors_to_the_task_that_writes() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.close()
    shared = SharedStream(SocketTransport(ours))
    assert shared.send_now(b"x") == (False, False)
    with pytest.raises(trio.BrokenResourceError):
        await shared.send_all(b"x")
    ours.close()


async def test_a_question_is_sent_at_once_and_frames_that_wait_go_first() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    reader = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    hub = Hub()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.serve_client, SocketTransport(ours), LOCAL)
        await register(reader)
        (client,) = hub._clients
        client.send("1")
        theirs.setblocking(False)
        assert theirs.recv(100) == b"\x81\x011"  # before any other task has run
        client.outbox.put_notification(b"\x81\x012")
        client.send("3")
        assert await receive_exactly(reader, 6) == b"\x81\x013\x81\x012"
        await reader.aclose()


class SlowTransport(trio.abc.Stream):
    """A transport whose kernel buffer is full, and whose peer takes each send within some seconds."""

    def __init__(self, stream: trio.abc.Stream, seconds: float) -> None:
        self._stream = stream
        self._seconds = seconds
        self._rest: list[bytes] = []
        self.is_slow = False

    def start_send(self, data: bytes) -> bool:
        assert not self._rest, "finish_send comes first, as with TLS"
        self._rest.append(data)
        return False

    async def finish_send(self) -> None:
        while self._rest:
            if self.is_slow:
                await trio.sleep(self._seconds)
            await self._stream.send_all(self._rest.pop(0))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        raise AssertionError("start_send and finish_send are used")

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


async def test_the_rest_of_a_send_is_sent_before_other_data() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    shared = SharedStream(SlowTransport(theirs, 1))
    assert shared.send_now(b"1") == (True, True)
    await shared.send_all(b"")
    assert await ours.receive_some() == b"1"
    assert shared.send_now(b"2") == (True, True)
    await shared.send_all(b"3")
    assert await receive_exactly(ours, 2) == b"23"


@pytest.mark.parametrize(("seconds", "alive"), [(15, True), (100, False)])
async def test_a_client_whose_pong_is_late_is_alive_while_it_reads(
    seconds: float, alive: bool, autojump_clock: trio.testing.MockClock
) -> None:
    hub = Hub()
    events: list[ServerEvent] = []
    hub.on_event = events.append
    ours, theirs = trio.testing.memory_stream_pair()
    transport = SlowTransport(theirs, seconds)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.serve_client, transport, LOCAL)
        await register(ours)
        transport.is_slow = True
        (client,) = hub._clients
        for _ in range(20):
            client.outbox.put_notification(b"\x81\x011")
            await trio.sleep(15)
        closed = [each.reason for each in events if isinstance(each, PolicyClientDisconnected)]
        assert closed == ([] if alive else ["too slow: no pong came"])
        nursery.cancel_scope.cancel()
