"""Real sockets: listeners, limits, the transport stream, and an orderly end."""

import errno
import os
import smtplib
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

import triosmtp
from triosmtp import ConfigError, Message, Server
from triosmtp.event import ConnectionRefused, Disconnected, SessionEvent
from triosmtp.server.transport import SocketTransport
from triosmtp.testing import Client

LISTEN = "127.0.0.1:0"
clients: list[Client] = []  # of the test that runs; closed when its server ends


def conf(options: str = "", listen: str = LISTEN, body: str = "") -> str:
    return f'Relay_Domains = ( "example.com" )\n{options}\nESMTP_Listener {{ Listen "{listen}" {{ {body} }} }}'


@asynccontextmanager
async def serving(text: str, **kwargs: object) -> AsyncIterator[Server]:
    async with trio.open_nursery() as nursery:
        serve = partial(triosmtp.serve, triosmtp.parse_config(text), **{"deliver": drop, **kwargs})  # type: ignore[arg-type]
        try:
            yield await nursery.start(serve)
        finally:
            for client in clients:
                await client.aclose()
            clients.clear()
            nursery.cancel_scope.cancel()


async def drop(message: Message) -> None:
    return None


async def connect(server: Server, listen: str = LISTEN) -> Client:
    address = server.addresses[listen]
    if isinstance(address, str):
        clients.append(Client(await trio.open_unix_socket(address)))
    else:
        clients.append(Client(await trio.open_tcp_stream(*address)))
    return clients[-1]


async def test_serve_starts_with_its_addresses_and_takes_mail() -> None:
    async with serving(conf()) as server:
        address = server.addresses[LISTEN]
        assert isinstance(address, tuple)
        host, port = address
        assert host == "127.0.0.1"
        assert isinstance(port, int)

        def send() -> None:
            with smtplib.SMTP(str(host), port) as client:
                client.sendmail("a@example.org", ["b@example.com"], "Subject: x\r\n\r\nbody\r\n")

        await trio.to_thread.run_sync(send)
        assert server.statistics.messages_accepted == 1
        assert server.statistics.sessions_total == 1


async def test_a_wildcard_takes_ipv4_and_ipv6() -> None:
    async with serving(conf(listen=":0")) as server:
        port = server.addresses[":0"][1]
        hosts = ["127.0.0.1"] + (["::1"] if socket.has_dualstack_ipv6() else [])
        for host in hosts:
            client = Client(await trio.open_tcp_stream(host, port))  # type: ignore[arg-type]  # an int
            assert (await client.read()).code == 220
            await client.aclose()


async def test_a_unix_socket_has_its_mode_and_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "smtp.sock"
    async with serving(conf(listen=str(path), body="File_Mode = 0640")) as server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        client = await connect(server, str(path))
        assert (await client.read()).code == 220
        await client.command("EHLO c.example.org")
        assert (await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")).code == 250
        await client.aclose()
    assert not path.exists()


async def test_a_stale_unix_socket_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "smtp.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serving(conf(listen=str(path))) as server:
        assert (await (await connect(server, str(path))).read()).code == 220
    path.write_text("precious")
    with pytest.RaisesGroup(ConfigError, allow_unwrapped=True, flatten_subgroups=True):
        async with serving(conf(listen=str(path))):
            pass
    assert path.read_text() == "precious"


async def test_a_busy_port_is_a_configuration_error_with_its_place() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        with pytest.raises(ConfigError) as caught:
            await triosmtp.serve(
                triosmtp.parse_config(conf(listen=f"127.0.0.1:{busy.getsockname()[1]}"), "my.conf"), deliver=drop
            )
    [problem] = caught.value.problems
    assert os.strerror(errno.EADDRINUSE) in problem.message
    assert str(problem.position).startswith("my.conf:3:")


@pytest.mark.parametrize("limit", ["Listener_Sessions", "Service_Sessions"])
async def test_over_a_session_limit_is_421_and_room_comes_back(limit: str) -> None:
    events: list[SessionEvent] = []
    async with serving(conf(f"{limit} = 2"), observers=[events.append]) as server:
        first, second = await connect(server), await connect(server)
        assert [(await c.read()).code for c in (first, second)] == [220, 220]
        third = await connect(server)
        assert str(await third.read())[:9] == "421 4.7.0"
        assert await third.read_eof() == b""
        assert [e.reason for e in events if isinstance(e, ConnectionRefused)] == [limit]
        assert (await first.command("QUIT")).code == 221
        await first.read_eof()
        while server.statistics.sessions > 1:
            await trio.testing.wait_all_tasks_blocked()
        fourth = await connect(server)
        assert (await fourth.read()).code == 220
        for client in (second, third, fourth):
            await client.aclose()


async def test_aclose_ends_idle_sessions_with_421_and_lets_a_message_finish() -> None:
    events: list[SessionEvent] = []
    async with serving(conf(), observers=[events.append]) as server:
        idle, busy = await connect(server), await connect(server)
        for client in (idle, busy):
            await client.read()
            await client.command("EHLO c.example.org")
        await busy.command("MAIL FROM:<a@example.org>")
        await busy.command("RCPT TO:<b@example.com>")
        assert (await busy.command("DATA")).code == 354
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.aclose, 30)
            assert str(await idle.read())[:9] == "421 4.3.2"
            assert await idle.read_eof() == b""
            await busy.send(b"x: y\r\n\r\n.\r\n")
            assert (await busy.read()).code == 250
            assert str(await busy.read())[:9] == "421 4.3.2"
            assert await busy.read_eof() == b""
        with pytest.raises(OSError, match=r"refused|failed"):
            await connect(server)
    assert [e.reason for e in events if isinstance(e, Disconnected)] == ["drain", "drain"]


async def test_what_is_not_done_after_the_grace_is_cancelled() -> None:
    async with serving(conf()) as server:
        client = await connect(server)
        await client.read()
        await client.command("EHLO c.example.org")
        await client.command("MAIL FROM:<a@example.org>")
        await server.aclose(grace=0)
        assert await client.read_eof() == b""


async def test_aclose_works_twice_and_without_sessions() -> None:
    async with serving(conf()) as server:
        await server.aclose()
        await server.aclose()


async def test_a_peer_that_vanishes_costs_nothing() -> None:
    events: list[SessionEvent] = []
    async with serving(conf(), observers=[events.append]) as server:
        with socket.create_connection(server.addresses[LISTEN]) as rude:  # type: ignore[arg-type]  # a TCP address
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client = await connect(server)
        assert (await client.read()).code == 220
        await client.aclose()


def socket_pair() -> tuple[SocketTransport, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return SocketTransport(ours), theirs


async def test_transport_sends_more_than_the_kernel_takes_at_once() -> None:
    stream, raw = socket_pair()
    other = SocketTransport(raw)
    data = os.urandom(3_000_000)
    got = bytearray()

    async def receive() -> None:
        while chunk := await other.receive_some(100_000):
            got.extend(chunk)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await stream.wait_send_all_might_not_block()
        await stream.send_all(data)
        await stream.send_eof()
    assert got == data
    await stream.aclose()
    await other.aclose()


async def test_transport_tells_its_two_ends_of_life_apart() -> None:
    stream, raw = socket_pair()
    raw.close()
    assert await stream.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
        for _ in range(3):
            await stream.send_all(b"x" * 100_000)
    await stream.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_all(b"x")
    with pytest.raises(trio.ClosedResourceError):
        await stream.wait_send_all_might_not_block()
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_eof()


async def test_closing_wakes_a_reader_and_cancelling_reaches_it() -> None:
    stream, raw = socket_pair()
    with trio.move_on_after(0) as scope:
        await stream.receive_some()
    assert scope.cancelled_caught

    async def read() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        await stream.aclose()
    raw.close()
