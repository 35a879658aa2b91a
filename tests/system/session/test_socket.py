"""Real sockets: listeners, limits, the transport stream, and an orderly end."""

import errno
import os
import smtplib
import socket
import ssl
import stat
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio
import trio.testing

import triosmtp
from triosmtp import ConfigError, Message, Server
from triosmtp.config import UnixAddress
from triosmtp.event import ConnectionRefused, Disconnected, ServerEvent, TLSEstablished
from triosmtp.server.session.driver import SMTPSession
from triosmtp.sockets.listener import accept_connections, bind_unix
from triosmtp.sockets.peer import Peer
from triosmtp.sockets.transport import SocketTransport
from triosmtp.testing import Authority, ScriptedClient

LISTEN = "127.0.0.1:0"
clients: list[ScriptedClient] = []  # of the test that runs; closed when its server ends


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


async def connect(server: Server, listen: str = LISTEN) -> ScriptedClient:
    if listen in server.addresses:
        clients.append(ScriptedClient(await trio.open_tcp_stream(*server.addresses[listen])))
    else:
        clients.append(ScriptedClient(await trio.open_unix_socket(listen)))
    return clients[-1]


async def test_serve_starts_with_its_addresses_and_takes_mail() -> None:
    async with serving(conf()) as server:
        host, port = server.addresses[LISTEN]
        assert host == "127.0.0.1"

        def send() -> None:
            with smtplib.SMTP(host, port) as client:
                client.sendmail("a@example.org", ["b@example.com"], "Subject: x\r\n\r\nbody\r\n")

        await trio.to_thread.run_sync(send)
        assert server.statistics.messages_accepted == 1
        assert server.statistics.sessions_total == 1


async def test_a_wildcard_takes_ipv4_and_ipv6() -> None:
    async with serving(conf(listen=":0")) as server:
        port = server.addresses[":0"][1]
        hosts = ["127.0.0.1"] + (["::1"] if socket.has_dualstack_ipv6() else [])
        for host in hosts:
            client = ScriptedClient(await trio.open_tcp_stream(host, port))
            assert (await client.read()).code == 220
            await client.aclose()


async def test_a_unix_socket_has_its_mode_and_is_removed_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "smtp.sock"
    async with serving(conf(listen=str(path), body="File_Mode = 0640")) as server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        client = await connect(server, str(path))
        assert (await client.read()).code == 220
        await client.command("EHLO c.example.org")
        assert (await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")).code == 250
        await client.aclose()
    assert not path.exists()


def test_binding_a_unix_socket_leaves_the_umask_of_the_process_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: set[int] = set()
    begun, ended = threading.Event(), threading.Event()

    def make_files() -> None:
        for number in count():
            file = tmp_path / f"file{number}"
            os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o666))
            modes.add(stat.S_IMODE(file.stat().st_mode))
            file.unlink()
            begun.set()
            if ended.is_set():
                return

    before_chmod: list[int] = []
    chmod = Path.chmod

    def observed(path: Path, mode: int) -> None:
        before_chmod.append(stat.S_IMODE(path.lstat().st_mode))
        chmod(path, mode)

    monkeypatch.setattr(Path, "chmod", observed)
    umask = os.umask(0)  # nothing is taken away: what the socket is closed to, it is closed to by its own mode
    thread = threading.Thread(target=make_files)
    thread.start()
    try:
        assert begun.wait(60)
        for number in range(200):
            path = tmp_path / f"socket{number}"
            bind_unix(UnixAddress(str(path), 0o660)).close()
            assert stat.S_IMODE(path.lstat().st_mode) == 0o660
    finally:
        ended.set()
        thread.join()
        os.umask(umask)
    assert modes == {0o666}
    assert before_chmod == [0o600] * 200  # nobody else may connect before it has the mode that is asked for


class Faulty(socket.socket):
    """A listening socket whose accept fails, with each of ``errors`` in turn, before it works."""

    errors: ClassVar[list[int]] = []
    calls = 0

    def accept(self) -> tuple[socket.socket, object]:
        Faulty.calls += 1
        if Faulty.errors:
            number = Faulty.errors.pop(0)
            raise OSError(number, os.strerror(number))
        return super().accept()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO, errno.EMFILE, errno.ENOBUFS, errno.EBADF])
async def test_no_error_of_accept_ends_the_loop_and_none_makes_it_spin(
    number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    accepted = trio.Event()
    Faulty.calls = 0
    monkeypatch.setattr(Faulty, "errors", [number, errno.ECONNABORTED, number])
    pauses: list[float] = []
    sleep = trio.sleep

    async def observed(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(trio, "sleep", observed)

    def take(sock: socket.socket, peer: Peer) -> None:
        sock.close()
        accepted.set()

    with Faulty() as listener, socket.socket() as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        client.connect(listener.getsockname())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_connections, listener, take)
            with trio.fail_after(60):
                await accepted.wait()
            nursery.cancel_scope.cancel()
    assert pauses == [0.1, 0.1]
    assert Faulty.calls <= 5  # three failures, the connection, and the look for the next one
    assert caplog.messages == [f"cannot accept a connection: {os.strerror(number)}; trying again every 0.1 s"] or (
        caplog.messages[-1] == "connections are accepted again"
    )


async def test_a_connection_that_cannot_be_served_costs_no_other_and_counts_no_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = SMTPSession.__init__
    failures = [OSError(errno.ENOTCONN, "it was reset"), RuntimeError("whatever")]

    def fails(self: SMTPSession, *arguments: Any) -> None:
        if failures:
            raise failures.pop()
        made(self, *arguments)

    monkeypatch.setattr(SMTPSession, "__init__", fails)
    async with serving(conf("Connections_Per_Peer = 1 Service_Sessions = 1")) as server:
        for _ in range(2):
            with pytest.raises(EOFError):  # the connection is closed, and nothing was said
                await (await connect(server)).read()
        assert (await (await connect(server)).read()).code == 220
        assert server.statistics.sessions == 1
    assert caplog.messages == ["an accepted connection cannot be served: it is closed"] * 2


async def test_a_unix_socket_that_another_server_took_over_stays(tmp_path: Path) -> None:
    path = tmp_path / "smtp.sock"
    with socket.socket(socket.AF_UNIX) as other:
        async with serving(conf(listen=str(path))):
            path.rename(tmp_path / "old.sock")
            other.bind(str(path))
        assert path.exists()


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
async def test_over_a_session_limit_is_421_until_a_session_ends(limit: str) -> None:
    events: list[ServerEvent] = []
    async with serving(conf(f"{limit} = 2"), observers=[events.append]) as server:
        first, second = await connect(server), await connect(server)
        assert [(await c.read()).code for c in (first, second)] == [220, 220]
        third = await connect(server)
        assert str(await third.read()) == "421 Too many connections, try again later"
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


async def test_aclose_ends_idle_sessions_with_421_and_finishes_a_message() -> None:
    events: list[ServerEvent] = []
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


async def test_after_the_grace_period_sessions_end_with_421() -> None:
    async with serving(conf()) as server, trio.open_nursery() as nursery:
        client = await connect(server)
        await client.read()
        await client.command("EHLO c.example.org")
        await client.command("MAIL FROM:<a@example.org>")
        nursery.start_soon(server.aclose, 0)
        assert (await client.read()).code == 421
        assert await client.read_eof() == b""
        await client.aclose()


async def test_aclose_works_twice_and_without_sessions() -> None:
    async with serving(conf()) as server:
        await server.aclose()
        await server.aclose()


async def test_a_peer_that_resets_does_not_stop_the_server() -> None:
    events: list[ServerEvent] = []
    async with serving(conf(), observers=[events.append]) as server:
        with socket.create_connection(server.addresses[LISTEN]) as rude:
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


async def test_a_transport_distinguishes_a_gone_peer_from_its_own_close() -> None:
    stream, raw = socket_pair()
    raw.close()
    assert await stream.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
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


async def test_the_end_of_a_handshake_is_acknowledged_at_once(tmp_path: Path) -> None:
    # A client with Nagle's algorithm cannot send before that, and the kernel itself takes 40 ms.
    authority = Authority.create()
    authority.issue("localhost", dns=["localhost"]).write(tmp_path, "cert")
    tls = f'TLS_Certificate = "{tmp_path}/cert.pem" TLS_Key = "{tmp_path}/cert.key" SMTP_Extensions = ( STARTTLS )'
    established = trio.Event()

    def observe(event: ServerEvent) -> None:
        if isinstance(event, TLSEstablished):
            assert event.tls.protocol == "TLSv1.3"
            established.set()

    async with serving(conf(body=tls), observers=(observe,)) as server:
        stream = await trio.open_tcp_stream(*server.addresses[LISTEN])
        client = ScriptedClient(stream)
        clients.append(client)
        await client.read()
        await client.starttls(ssl.create_default_context(cadata=authority.certificate_pem.decode()))
        await established.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert unacknowledged(stream.socket) == 0


def unacknowledged(sock: trio.socket.SocketType) -> int:
    """Return how many segments the peer's kernel has not acknowledged: tcpi_unacked, tcp(7)."""
    information = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)
    return int.from_bytes(information[24:28], sys.byteorder)
