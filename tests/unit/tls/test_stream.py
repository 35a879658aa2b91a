"""TLSStream reads and writes past SSLStream, and SSLStream can be used at any moment with the same result.

Over real sockets: only :class:`SocketTransport` sends without an await.
"""

import random
import select
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from OpenSSL import SSL
from tls_peers import VERSIONS, client_context, plain_client, scaled, server_context, taken
from trio.testing import check_two_way_stream, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from triosmtp.sockets.transport import SocketTransport
from triosmtp.tls import TLSStream, openssl_memory
from triosmtp.tls import engine as engine_module
from triosmtp.tls import stream as stream_module
from triosmtp.tls.handshake import handshake
from triosmtp.tls.handshake_scheduler import HandshakeScheduler
from triosmtp.tls.stream import open_stream


@pytest.fixture(params=["bindings", "methods"])
def _calls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let OpenSSL be called by the bindings, and by pyOpenSSL's methods, as if the bindings were missing."""
    if request.param == "methods":
        for name in filter(str.islower, openssl_memory.__all__):
            monkeypatch.setattr(engine_module, name, getattr(openssl_memory, f"_{name}"))


def socket_pair(buffer: int = 0) -> tuple[SocketTransport, SocketTransport]:
    """Return two connected transports, with kernel buffers of about so many octets."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
        if buffer:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    return SocketTransport(ends[0]), SocketTransport(ends[1])


async def connected(
    version: str, *, buffer: int = 0, renegotiation: bool = False
) -> tuple["trio.SSLStream[SocketTransport]", TLSStream[SocketTransport]]:
    """Return a client and a server whose handshake is done."""
    near, far = socket_pair(buffer)
    context = server_context(renegotiation=renegotiation)
    client = trio.SSLStream(far, client_context(version), server_hostname="x", https_compatible=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        server, _ = await handshake(context, near)
    return client, server


def close(client: "trio.SSLStream[SocketTransport]", server: TLSStream[SocketTransport]) -> None:
    server.release()
    server.transport.close()
    client.transport_stream.close()


def test_what_is_private_of_other_libraries_is_there() -> None:
    """Without it all works, but at a third more work."""
    assert openssl_memory.DIRECT
    ours, _ = memory_stream_pair()
    stream: trio.SSLStream[Any] = trio.SSLStream(ours, server_context().as_ssl_context(), server_side=True)
    assert stream_module._has_private_parts()
    assert stream_module._send_lock(stream) is not None
    assert stream_module._finish_handshake(stream)


async def test_nothing_is_left_to_SSLStream_in_an_ordinary_session(monkeypatch: pytest.MonkeyPatch) -> None:
    client, server = await connected("TLSv1.3")

    with monkeypatch.context() as patch:
        patch.setattr(trio, "SSLStream", None)
        for _ in range(3):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.send_all, b"NOOP\r\n")
                assert await server.receive_some(100) == b"NOOP\r\n"
            assert server.start_send(b"250 OK\r\n")
            assert await client.receive_some() == b"250 OK\r\n"
    close(client, server)


async def shaken_with(
    *early: bytes, cut: int = 0
) -> tuple[SSL.Connection, SocketTransport, TLSStream[SocketTransport]]:
    """Return a client, its transport, and a server that got ``early`` in one read with the end of the handshake.

    The last ``cut`` octets of it come later, by the transport.
    """
    near, far = socket_pair()
    client, engine = plain_client(), server_context().new_engine()
    with suppress(SSL.WantReadError):
        client.do_handshake()
    engine.receive(taken(client))
    assert not engine.advance()
    client.bio_write(engine.output())
    client.do_handshake()
    flight = taken(client)
    for piece in early:
        client.send(piece)
        flight += taken(client)
    engine.receive(flight[: len(flight) - cut])
    assert engine.advance()
    await far.send_all(flight[len(flight) - cut :])
    return client, far, await open_stream(near, engine, may_renegotiate=False)


@pytest.mark.parametrize("cut", [0, 1, 20, 26])
async def test_data_right_behind_the_handshake_need_no_SSLStream(monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
    client, far, server = await shaken_with(b"EHLO x\r\n", *([b"NOOP\r\n"] if cut else []), cut=cut)
    if not cut:
        monkeypatch.setattr(trio, "SSLStream", None)
    with trio.testing.assert_checkpoints():
        assert await server.receive_some(5) == b"EHLO "
    assert await server.receive_some(100) == b"x\r\n"
    if cut:
        assert await server.receive_some(100) == b"NOOP\r\n"
    for _ in range(3):
        client.send(b"RSET\r\n")
        await far.send_all(taken(client))
        assert await server.receive_some(100) == b"RSET\r\n"
    server.release()
    server.transport.close()
    far.close()


async def test_a_cancelled_read_leaves_the_data_behind_the_handshake() -> None:
    _client, far, server = await shaken_with(b"EHLO x\r\n")
    with trio.CancelScope() as scope:
        scope.cancel()
        await server.receive_some(100)
    assert scope.cancelled_caught
    assert await server.ssl_stream.receive_some(4) == b"EHLO"
    assert await server.receive_some(100) == b" x\r\n"
    server.release()
    server.transport.close()
    far.close()


async def test_an_end_right_behind_the_handshake_comes_after_the_data() -> None:
    client, far, server = await shaken_with(b"QUIT\r\n")
    client.shutdown()
    await far.send_all(taken(client))
    assert await server.receive_some(100) == b"QUIT\r\n"
    assert await server.receive_some(100) == b""
    server.release()
    server.transport.close()
    far.close()


@pytest.mark.usefixtures("_calls")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["memory", "sockets"])
@pytest.mark.parametrize("of", ["TLSStream", "SSLStream", "renegotiable", "without private parts"])
async def test_trio_s_own_checks(version: str, kind: str, of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    context = server_context(renegotiation=of == "renegotiable")
    if of == "without private parts":
        monkeypatch.setattr(stream_module, "_finish_handshake", lambda _stream: False)
        monkeypatch.setattr(stream_module, "_send_lock", lambda _stream: None)
        monkeypatch.setattr(stream_module, "_has_private_parts", lambda: False)

    async def shaken(near: trio.abc.Stream, far: trio.abc.Stream) -> tuple[trio.abc.Stream, trio.abc.Stream]:
        client = trio.SSLStream(far, client_context(version), server_hostname="x", https_compatible=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.do_handshake)
            server, _ = await handshake(context, near)
        return client, server.ssl_stream if of == "SSLStream" else server

    async def stream_maker() -> tuple[trio.abc.Stream, trio.abc.Stream]:
        return await shaken(*(memory_stream_pair() if kind == "memory" else socket_pair()))

    async def clogged_stream_maker() -> tuple[trio.abc.Stream, trio.abc.Stream]:
        return await shaken(*lockstep_stream_pair())

    await check_two_way_stream(stream_maker, clogged_stream_maker if kind == "memory" else None)


class Interleaved:
    """A server that reads and writes by one way or the other, as the dice fall, and a client that does both at once."""

    def __init__(self, client: Any, server: TLSStream[SocketTransport], seed: int) -> None:
        self.client, self.server = client, server
        self.dice = random.Random(seed)
        self.sent, self.received = bytearray(), bytearray()
        self.told, self.heard = bytearray(), bytearray()

    async def talk(self, sizes: list[int]) -> None:
        for size in sizes:
            piece = self.dice.randbytes(size)
            self.told += piece
            await self.client.send_all(piece)

    async def listen(self, total: int) -> None:
        while len(self.heard) < total:
            piece = await self.client.receive_some(70_000)
            assert piece
            self.heard += piece

    async def read(self, total: int) -> None:
        while len(self.received) < total:
            limit = self.dice.choice([1, 100, 16_384, 40_000])
            stream = self.dice.choice([self.server, self.server.ssl_stream])
            self.received += await stream.receive_some(limit)

    async def write(self, sizes: list[int]) -> None:
        for size in sizes:
            piece = self.dice.randbytes(size)
            self.sent += piece
            match self.dice.randrange(3):
                case 0:
                    await self.server.ssl_stream.send_all(piece)
                case 1:
                    await self.server.send_all(piece)
                case _ if not self.server.start_send(piece):
                    await self.server.finish_send()


@pytest.mark.usefixtures("_calls")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("renegotiation", [False, True])
async def test_interleaved_uses(version: str, renegotiation: bool) -> None:
    """Both directions at once, in pieces from one octet to more than the kernel takes."""
    for seed in range(scaled(200, 4)):
        client, server = await connected(version, buffer=4096, renegotiation=renegotiation)
        each = Interleaved(client, server, seed)
        told, sent = ([each.dice.choice([1, 50, 5000, 40_000]) for _ in range(20)] for _ in range(2))
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(each.talk, told)
                nursery.start_soon(each.listen, sum(sent))
                nursery.start_soon(each.read, sum(told))
                nursery.start_soon(each.write, sent)
        assert each.received == each.told
        assert each.heard == each.sent
        close(client, server)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("steps", range(6))
async def test_what_another_task_sends_is_not_overtaken(version: str, steps: int) -> None:
    """SSLStream encrypts, and makes a checkpoint before it sends: a record that went before would be out of order."""
    client, server = await connected(version)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.ssl_stream.send_all, b"A" * 10)
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        with suppress(trio.BusyResourceError):  # SSLStream's own word for two that send
            if not server.start_send(b"B" * 10):
                await server.finish_send()
    server.start_send(b"C")
    heard = b""
    with trio.fail_after(10):
        while b"C" not in heard:
            heard += await client.receive_some()
    assert heard.replace(b"B" * 10, b"") == b"A" * 10 + b"C"
    close(client, server)


@pytest.mark.parametrize("first", ["SSLStream", "TLSStream"])
async def test_two_that_send_at_once_are_an_error_and_nothing_is_lost(first: str) -> None:
    client, server = await connected("TLSv1.3", buffer=4096)
    body, heard = b"x" * 300_000, bytearray()
    streams: list[trio.abc.Stream] = [server.ssl_stream, server]
    if first == "TLSStream":
        streams.reverse()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(streams[0].send_all, body)
        await wait_all_tasks_blocked()
        for stream in streams:
            with pytest.raises(trio.BusyResourceError):
                await stream.send_all(b"y")
        while len(heard) < len(body):
            heard += await client.receive_some()
    assert heard == body
    assert server.start_send(b"z")
    assert await client.receive_some() == b"z"
    close(client, server)


@pytest.mark.parametrize("first", ["SSLStream", "TLSStream"])
async def test_two_that_read_at_once_are_an_error_and_nothing_is_lost(first: str) -> None:
    client, server = await connected("TLSv1.3")
    streams: list[trio.abc.Stream] = [server.ssl_stream, server]
    if first == "TLSStream":
        streams.reverse()
    got = []

    async def read() -> None:
        got.append(await streams[0].receive_some(100))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        for stream in streams:
            with pytest.raises(trio.BusyResourceError):
                await stream.receive_some(100)
        await client.send_all(b"NOOP\r\n")
    assert got == [b"NOOP\r\n"]
    for stream in streams:
        await client.send_all(b"RSET\r\n")
        assert await stream.receive_some(100) == b"RSET\r\n"
    close(client, server)


class Program:
    """OpenSSL's own client, which can ask for new keys."""

    def __init__(self, port: int) -> None:
        command = ["openssl", "s_client", "-tls1_3", "-msg", "-connect", f"127.0.0.1:{port}"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
        )
        self.output = b""

    def type(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)

    def wait_for(self, text: bytes, times: int = 1) -> None:
        assert self.process.stdout is not None
        while self.output.count(text) < times:
            ready, _, _ = select.select([self.process.stdout], [], [], 20)
            piece = self.process.stdout.read(65_536) if ready else b""
            assert piece, self.output
            self.output += piece

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def program() -> Iterator[tuple[Program, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        each = Program(listener.getsockname()[1])
        connection, _ = listener.accept()
        connection.setblocking(False)
        yield each, connection
        each.kill()
        connection.close()


_ANSWER = b"<<< TLS 1.3, Handshake [length 0005], KeyUpdate"


@pytest.mark.usefixtures("_calls")
@pytest.mark.parametrize("kind", ["TLSStream", "SSLStream"])
async def test_new_keys_with_each_reader(program: tuple[Program, socket.socket], kind: str) -> None:
    client, connection = program
    server, _ = await handshake(server_context(), SocketTransport(connection))
    stream: trio.abc.Stream = server if kind == "TLSStream" else server.ssl_stream
    got: list[bytes] = []

    async def read() -> None:
        got.append(bytes(await stream.receive_some(1000)))

    with trio.fail_after(30):
        for number in range(1, 4):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                client.type(b"K\n")
                await trio.to_thread.run_sync(client.wait_for, b"KEYUPDATE", number)
                client.type(b"NOOP %d\n" % number)
            assert got[-1] == b"NOOP %d\n" % number
            assert server.start_send(b"250 of %d\r\n" % number)
            await trio.to_thread.run_sync(client.wait_for, b"250 of %d" % number)
            await trio.to_thread.run_sync(client.wait_for, _ANSWER, number)  # OpenSSL sends it with the next data
    server.release()


@pytest.mark.usefixtures("_calls")
@pytest.mark.parametrize("reader", ["TLSStream", "SSLStream"])
@pytest.mark.parametrize("sender", ["TLSStream", "SSLStream"])
async def test_an_answer_of_TLS_goes_behind_what_another_task_sends(reader: str, sender: str) -> None:
    """One task waits for the client to read; the refusal of a renegotiation, which the other one reads, waits, too."""
    near, far = socket_pair(4096)
    client = plain_client("TLSv1.2")
    server = await connected_plain(client, near, far)
    body, heard = random.Random(1).randbytes(300_000), bytearray()
    streams: dict[str, trio.abc.Stream] = {"TLSStream": server, "SSLStream": server.ssl_stream}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(streams[sender].send_all, body)
        nursery.start_soon(streams[reader].receive_some, 1000)
        await wait_all_tasks_blocked()
        client.renegotiate()
        with pytest.raises(SSL.WantReadError):
            client.do_handshake()
        await far.send_all(taken(client))
        await wait_all_tasks_blocked()
        with trio.fail_after(30), pytest.raises(SSL.Error, match="no renegotiation"):
            await heard_by(client, far, heard)
        nursery.cancel_scope.cancel()
    assert heard == body
    near.close()
    far.close()


async def heard_by(client: SSL.Connection, transport: SocketTransport, heard: bytearray) -> None:
    """Read until an error, which is raised."""
    while True:
        try:
            heard += client.recv(65_536)
        except SSL.WantReadError:
            client.bio_write(await transport.receive_some())


async def connected_plain(
    client: SSL.Connection, near: SocketTransport, far: SocketTransport, *, renegotiation: bool = False
) -> TLSStream[SocketTransport]:
    """Let a client of pyOpenSSL's do its handshake, and return the server's side."""

    async def connect() -> None:
        while True:
            try:
                client.do_handshake()
            except SSL.WantReadError:
                await far.send_all(taken(client))
                client.bio_write(await far.receive_some())
            else:
                return await far.send_all(taken(client))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connect)
        server, _ = await handshake(server_context(renegotiation=renegotiation), near)
    return server


async def cancelled_after(steps: int, call: Any) -> Any:
    """Call, and cancel it after so many steps of the scheduler, unless it has ended."""
    result = None
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            nonlocal result
            result = await call()
            nursery.cancel_scope.cancel()

        nursery.start_soon(run)
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    return result


@pytest.mark.usefixtures("_calls")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["TLSStream", "SSLStream", "both"])
async def test_a_read_that_is_cancelled_loses_nothing(version: str, kind: str) -> None:
    client, server = await connected(version, buffer=4096)
    body = random.Random(1).randbytes(200_000)
    received = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, body)
        number = 0
        with trio.fail_after(30):
            while len(received) < len(body):
                number += 1
                stream = server if kind == "TLSStream" or (kind == "both" and number % 2) else server.ssl_stream
                received += await cancelled_after(number % 7, partial(stream.receive_some, 5000)) or b""
    assert received == body
    close(client, server)


@pytest.mark.usefixtures("_calls")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("renegotiation", [False, True])
@pytest.mark.parametrize("size", [10, 300_000])
@pytest.mark.parametrize("steps", range(6))
async def test_what_was_encrypted_is_sent_though_sending_was_cancelled(
    version: str, renegotiation: bool, size: int, steps: int
) -> None:
    """Whole, and before the close_notify; or nothing was encrypted."""
    client, server = await connected(version, buffer=4096, renegotiation=renegotiation)
    body, heard = random.Random(1).randbytes(size), bytearray()
    await cancelled_after(steps, partial(server.send_all, body))
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_close_notify, b"421 Bye\r\n")
            while piece := await client.receive_some():
                heard += piece
    assert bytes(heard) in {body + b"421 Bye\r\n", b"421 Bye\r\n"}
    assert not server.unsent
    close(client, server)


@pytest.mark.usefixtures("_calls")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("readers", ["tt", "ts", "st", "ss"])
@pytest.mark.parametrize("together", [True, False])
async def test_close_notify_and_what_comes_behind_it(version: str, readers: str, together: bool) -> None:
    near, far = socket_pair()
    client, connection = plain_client(version), far
    server = await connected_plain(client, near, far)
    client.send(b"QUIT\r\n")
    first = client.bio_read(65_536)
    client.shutdown()
    last = client.bio_read(65_536) + b"plain again\r\n"
    await connection.send_all(first + last if together else first)
    streams = [server if each == "t" else server.ssl_stream for each in readers]
    with trio.fail_after(10):
        assert await streams[0].receive_some(100) == b"QUIT\r\n"
        if not together:
            await connection.send_all(last)
        assert await streams[1].receive_some(100) == b""
        assert await server.receive_some(100) == b""
        transport, behind = await server.ssl_stream.unwrap()
    assert behind == b"plain again\r\n"
    assert transport is near
    for stream in (server, server.ssl_stream):
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some(100)
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_all(b"x")
    near.close()
    far.close()


@pytest.mark.usefixtures("_calls")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("reader", ["TLSStream", "SSLStream"])
async def test_a_broken_record_breaks_both(version: str, reader: str) -> None:
    client, server = await connected(version)
    await client.send_all(b"NOOP\r\n")
    await client.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
    stream: trio.abc.Stream = server if reader == "TLSStream" else server.ssl_stream
    with trio.fail_after(10):
        assert await stream.receive_some(100) == b"NOOP\r\n"
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some(100)
    assert server.broken_by() is not None
    for each in (server, server.ssl_stream):
        with pytest.raises(trio.BrokenResourceError):
            await each.receive_some(100)
        with pytest.raises(trio.BrokenResourceError):
            await each.send_all(b"x")
    await server.send_alert()
    with pytest.raises(trio.BrokenResourceError) as caught:
        await client.receive_some()
    assert isinstance(caught.value.__cause__, ssl.SSLError)
    assert "alert" in str(caught.value.__cause__).lower() or "mac" in str(caught.value.__cause__).lower()
    close(client, server)


def has_unsent(stream: TLSStream[Any]) -> bool:
    return stream.unsent


@pytest.mark.parametrize("then", ["send", "close_notify"])
async def test_what_the_kernel_did_not_take_goes_first(then: str) -> None:
    near, far = socket_pair(4096)
    client = plain_client()
    server = await connected_plain(client, near, far)
    body, heard = random.Random(1).randbytes(300_000), bytearray()
    assert not server.start_send(body)
    with trio.CancelScope() as scope:
        scope.cancel()
        await server.finish_send()
    assert has_unsent(server)
    while True:  # then the kernel takes data again, and no task waits for it
        try:
            client.bio_write(far._socket.recv(65_536))
        except BlockingIOError:
            break
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.send_all if then == "send" else server.send_close_notify, b"more")
        with trio.fail_after(30):
            while not heard.endswith(b"more"):
                try:
                    heard += client.recv(65_536)
                except SSL.WantReadError:
                    client.bio_write(await far.receive_some())
    assert heard == body + b"more"
    assert not has_unsent(server)
    near.close()
    far.close()


async def read_into(buffer: bytearray, stream: trio.abc.Stream, total: int) -> None:
    while len(buffer) < total:
        buffer += await stream.receive_some(20_000)


async def test_the_rest_of_a_record_may_look_like_a_record() -> None:
    near, far = socket_pair()
    client = plain_client()
    server = await connected_plain(client, near, far)
    dice, cuts = random.Random(1), list[int]()
    while not cuts:
        body, heard = dice.randbytes(16_000), bytearray()
        client.send(body)
        record = taken(client)
        size = len(record)
        cuts = [cut for cut in range(6, size - 5) if int.from_bytes(record[cut + 3 : cut + 5]) == size - cut - 5]
        cut = cuts[0] if cuts else size
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_into, heard, server, len(body))
            await far.send_all(record[:cut])
            await wait_all_tasks_blocked()
            await far.send_all(record[cut:])
        assert heard == body
    client.send(b"QUIT\r\n")
    client.shutdown()
    await far.send_all(taken(client) + b"plain again\r\n")
    assert await server.receive_some(100) == b"QUIT\r\n"
    assert await server.receive_some(100) == b""
    _, behind = await server.ssl_stream.unwrap()
    assert behind == b"plain again\r\n"
    near.close()
    far.close()


@pytest.mark.parametrize("version", VERSIONS)
async def test_nothing_is_read_after_unwrap(version: str) -> None:
    client, server = await connected(version)
    ours, theirs = server.transport, client.transport_stream
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.ssl_stream.unwrap)
        await wait_all_tasks_blocked()
        await client.unwrap()
    for stream in (server, server.ssl_stream):
        with trio.fail_after(10), pytest.raises(trio.ClosedResourceError):
            await stream.receive_some(100)
    server.release()
    ours.close()
    theirs.close()


async def test_a_renegotiation_waits_for_its_turn_and_commands_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[float] = []

    class Scheduler(HandshakeScheduler):
        def end_turn(self, seconds: float) -> None:
            turns.append(seconds)
            super().end_turn(seconds)

    scheduler = Scheduler()
    for module in (engine_module, stream_module):
        monkeypatch.setattr(module, "HANDSHAKE_SCHEDULER", scheduler)
    near, far = socket_pair()
    client = plain_client("TLSv1.2")
    server = await connected_plain(client, near, far, renegotiation=True)
    got: list[bytes] = []

    async def read() -> None:
        while piece := await server.receive_some(100):
            got.append(bytes(piece))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        scheduler._ending = True  # others have used up this round
        client.send(b"NOOP 1\r\n")
        await far.send_all(taken(client))
        await wait_all_tasks_blocked()
        assert got == [b"NOOP 1\r\n"]
        client.renegotiate()
        with pytest.raises(SSL.WantReadError):
            client.do_handshake()
        hello = taken(client)
        scheduler._ending = False
        await far.send_all(hello[:20])  # a record that OpenSSL has in part
        await wait_all_tasks_blocked()
        scheduler._ending = True
        await far.send_all(hello[20:])
        await wait_all_tasks_blocked()
        assert len(scheduler._waiting) == 1
        order: list[str] = []
        nursery.start_soon(run_step, scheduler, order)
        await wait_all_tasks_blocked()
        await scheduler._end_round()
        with trio.fail_after(10):
            while client.total_renegotiations() == 0 or client.renegotiate_pending():
                client.bio_write(await far.receive_some())
                with suppress(SSL.WantReadError):
                    client.do_handshake()
                await far.send_all(taken(client))
        client.send(b"NOOP 2\r\n")
        await far.send_all(taken(client))
        await wait_all_tasks_blocked()
        assert got[-1] == b"NOOP 2\r\n"
        assert order == ["step"]  # those that wait behind it are woken
        assert len(turns) >= 3
        assert min(turns) > 0
        assert server.renegotiated() is not None
        nursery.cancel_scope.cancel()
    near.close()
    far.close()


async def run_step(scheduler: HandshakeScheduler, order: list[str]) -> None:
    await scheduler.run(partial(order.append, "step"), lambda: False)


@pytest.mark.usefixtures("_calls")
@pytest.mark.parametrize("reader", ["TLSStream", "SSLStream"])
async def test_a_read_that_waits_while_the_connection_is_freed(reader: str) -> None:
    client, server = await connected("TLSv1.3")
    stream: trio.abc.Stream = server if reader == "TLSStream" else server.ssl_stream
    ended = []

    async def read() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some(100)
        ended.append("read")

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            server.release()
            await client.send_all(b"NOOP\r\n")
    assert ended == ["read"]
    with pytest.raises(trio.ClosedResourceError):
        await server.send_all(b"250 OK\r\n")
    await server.send_close_notify()
    await server.send_alert()
    close(client, server)


async def test_unwrap_ends_the_turn_of_a_renegotiation(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it did not, the handshakes that wait behind it would wait for another one."""
    scheduler = HandshakeScheduler()
    for module in (engine_module, stream_module):
        monkeypatch.setattr(module, "HANDSHAKE_SCHEDULER", scheduler)
    near, far = socket_pair()
    client = plain_client("TLSv1.2")
    server = await connected_plain(client, near, far, renegotiation=True)
    order: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.ssl_stream.unwrap)
        await wait_all_tasks_blocked()
        scheduler._ending = True  # others have used up this round
        client.renegotiate()
        with pytest.raises(SSL.WantReadError):
            client.do_handshake()
        await far.send_all(taken(client))
        await wait_all_tasks_blocked()
        for _ in range(20):
            nursery.start_soon(run_step, scheduler, order)
        await wait_all_tasks_blocked()
        await scheduler._end_round()
        await wait_all_tasks_blocked()
        assert len(order) == 20
        nursery.cancel_scope.cancel()
    near.close()
    far.close()
