"""The stream of a session: a client that reads slowly."""

import random
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import TypeAlias

import pytest
import trio
from OpenSSL import SSL
from tls_peers import plain_client, scaled, taken
from tls_stanza import Material
from trio.testing import wait_all_tasks_blocked

from triosmtp.server.service import RunningSession
from triosmtp.server.session.driver import SMTPSession
from triosmtp.sockets.peer import Peer
from triosmtp.sockets.transport import SocketTransport
from triosmtp.testing import MemoryServer, ScriptedClient, open_memory_server
from triosmtp.tls import TLSStream

End: TypeAlias = Callable[[RunningSession], None]

_COMMANDS = {b"NOOP\r\n": 250, b"VRFY x\r\n": 252, b"HELP\r\n": 214, b"EHLO a\r\n": 250}


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("certificates"))


def connect(server: MemoryServer) -> tuple[ScriptedClient, SocketTransport]:
    """Connect over sockets whose kernel buffers are as small as they can be."""
    near, far = socket.socketpair()
    for end in (near, far):
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    server._acceptor.accept(server.service.config.listens[0], near, Peer("192.0.2.1:1", ip_address("192.0.2.1"), 1), "")
    transport = SocketTransport(far)
    return ScriptedClient(transport), transport


def expire(session: RunningSession) -> None:
    session.expire()


def close(session: RunningSession) -> None:
    session.close()
    session.expire()


def time_out(session: RunningSession) -> None:
    session.check_timeouts(trio.current_time() + 100_000)


def drain(session: RunningSession) -> None:
    session.drain()


async def interrupted(material: Material, *, tls: ssl.TLSVersion | None, end: End, steps: int, seed: int) -> None:
    dice = random.Random(seed)
    async with open_memory_server(material.conf()) as server:
        client, transport = connect(server)
        assert (await client.read()).code == 220
        await client.command("EHLO c.example.org")
        if tls is not None:
            context = material.client("good")
            context.maximum_version = tls
            await client.starttls(context, "localhost")
            await client.command("EHLO c.example.org")
        commands = dice.choices(list(_COMMANDS), k=dice.choice([1, 3, 60, 90]))
        codes: list[int] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, client, b"".join(commands))
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            if dice.randrange(2):
                await wait_all_tasks_blocked()
            [session] = server.service.running
            assert isinstance(session, SMTPSession)
            server.service.draining = end is drain
            end(session)
            while not codes or codes[-1] != 421:
                codes.append((await client.read()).code)
            assert await client.read_eof() == b""
            nursery.cancel_scope.cancel()
        transport.close()
    assert codes[:-1] == [_COMMANDS[each] for each in commands][: len(codes) - 1]


async def send(client: ScriptedClient, data: bytes) -> None:
    try:
        await client.send(data)
    except trio.BrokenResourceError:  # the server has closed
        return


@pytest.mark.parametrize("tls", [None, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("end", [expire, close, time_out, drain])
async def test_replies_to_a_slow_client(material: Material, tls: ssl.TLSVersion | None, end: End) -> None:
    for number in range(scaled(400, 24)):
        with trio.fail_after(30):
            await interrupted(material, tls=tls, end=end, steps=number % 12, seed=number)


async def upgraded(client: ScriptedClient, transport: SocketTransport, *early: bytes) -> SSL.Connection:
    """Return a client after STARTTLS and its handshake, which has sent ``early`` in one packet with its end."""
    assert (await client.read()).code == 220
    await client.command("EHLO c.example.org")
    assert (await client.command("STARTTLS")).code == 220
    tls = plain_client()
    with suppress(SSL.WantReadError):
        tls.do_handshake()
    await transport.send_all(taken(tls))
    while True:
        tls.bio_write(await transport.receive_some())
        with suppress(SSL.WantReadError):
            tls.do_handshake()
            break
    flight = taken(tls)
    for command in early:
        tls.send(command)
        flight += taken(tls)
    await transport.send_all(flight)
    return tls


async def reply(tls: SSL.Connection, transport: SocketTransport) -> bytes:
    while True:
        tls.bio_write(await transport.receive_some())
        with suppress(SSL.WantReadError):
            return tls.recv(4096)


@pytest.mark.parametrize("early", [b"EHLO c.example.org\r\n", b"NOOP\r\nNOOP\r\nQUIT\r\n", b"EH", b""])
@pytest.mark.parametrize("renegotiation", ["false", "true"])
async def test_a_command_that_comes_with_the_end_of_the_handshake(
    material: Material, monkeypatch: pytest.MonkeyPatch, early: bytes, renegotiation: str
) -> None:
    """It is handled at once: no acknowledgement of its own is sent, and no read makes a coroutine."""
    acknowledged: list[SocketTransport] = []
    reads: list[TLSStream[SocketTransport]] = []

    def acknowledge(self: SocketTransport) -> None:
        acknowledged.append(self)

    monkeypatch.setattr(SocketTransport, "acknowledge", acknowledge)
    receive_some = TLSStream.receive_some

    async def receive(self: TLSStream[SocketTransport], max_bytes: int | None = None) -> bytes | bytearray:
        reads.append(self)
        return await receive_some(self, max_bytes)

    monkeypatch.setattr(TLSStream, "receive_some", receive)
    async with open_memory_server(material.conf(f"TLS_Allow_Renegotiation = {renegotiation}")) as server:
        client, transport = connect(server)
        tls = await upgraded(client, transport, *([early] if early else []))
        rest = {b"EH": b"LO x\r\n", b"": b"EHLO x\r\n"}.get(early)
        if rest is not None:
            await wait_all_tasks_blocked()
            tls.send(rest)
            await transport.send_all(taken(tls))
        replies = await reply(tls, transport)
        if early.endswith(b"QUIT\r\n"):
            assert [line[:3] for line in replies.splitlines()] == [b"250", b"250", b"221"]
        else:
            assert replies.startswith(b"250-")
            tls.send(b"QUIT\r\n")
            await transport.send_all(taken(tls))
            assert (await reply(tls, transport)).startswith(b"221 ")
        await transport.aclose()
    if renegotiation == "false":
        assert not reads
    assert bool(acknowledged) is (renegotiation == "true" or not early)
