"""The stream of a session: a client that reads slowly."""

import random
import socket
import ssl
from collections.abc import Callable
from ipaddress import ip_address
from typing import TypeAlias

import pytest
import trio
from tls_peers import scaled
from tls_stanza import Material
from trio.testing import wait_all_tasks_blocked

from triosmtp.server.service import RunningSession
from triosmtp.server.session.driver import SMTPSession
from triosmtp.sockets.peer import Peer
from triosmtp.sockets.transport import SocketTransport
from triosmtp.testing import MemoryServer, ScriptedClient, open_memory_server

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
