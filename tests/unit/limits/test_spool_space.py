"""The space of message bodies in memory and in spool files."""

import os
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from triosmtp.message import spool
from triosmtp.message.spool import Spool
from triosmtp.server.session.authentication_results import without_forged
from triosmtp.sockets.transport import SocketTransport
from triosmtp.testing import MemoryServer, ScriptedClient, open_memory_server

CONF = """
Relay_Domains = ( "example.com" )
Relay_Hosts = ( "198.51.100.0/24" )
Spool_Directory = "{folder}"
SMTP_Extensions = ( ENHANCEDSTATUSCODES CHUNKING )
{more}
ESMTP_Listener {{ Listen ":25" {{ }} }}
"""
START = b"Subject: x\r\n\r\n"
MB = 1_000_000


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    assert spool._memory.held == 0
    yield
    assert spool._memory.held == 0


async def begin(server: MemoryServer, peer: str = "192.0.2.1") -> ScriptedClient:
    client = server.connect(peer=peer)
    await client.read()
    await client.command("EHLO x")
    await client.command("MAIL FROM:<a@example.org>")
    await client.command("RCPT TO:<b@example.com>")
    assert (await client.command("DATA")).code == 354
    return client


async def settled() -> None:
    """Wait until the server has taken what there is: threads write files, so a moment is needed."""
    await trio.testing.wait_all_tasks_blocked(0.05)


def files() -> int:
    """Return how many spool files this process has open."""
    found = 0
    for each in Path("/proc/self/fd").iterdir():
        try:
            found += str(each.readlink()).startswith("/") and "(deleted)" in str(each.readlink())
        except FileNotFoundError:
            continue
    return found


async def test_bodies_in_memory_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_MEMORY", 2 * MB)
    async with open_memory_server(CONF.format(folder=tmp_path, more="")) as server:
        clients = []
        for _ in range(20):
            clients.append(await begin(server))
            await clients[-1].send(START + b"x" * 600_000)
            await settled()
        assert spool._memory.held < 2 * MB + 700_000
        for client in clients:
            await client.send(b"\r\n.\r\n")
            assert (await client.read()).code == 250
    assert {len(message.body) for message in server.messages} == {600_000 + len(START) + 2}


async def test_less_is_read_at_once_while_bodies_hold_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even of one that was waiting for more: 2000 of these would hold half a GiB."""
    monkeypatch.setattr(spool, "_MEMORY", MB)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    transport, held = SocketTransport(ours), Spool()
    sizes: list[int] = []

    async def read() -> None:
        sizes.append(len(await transport.receive_some(262_144)))

    with theirs:
        for size in (0, 2 * MB):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await trio.testing.wait_all_tasks_blocked()
                held.add(b"x" * size)
                theirs.send(b"x" * 100_000)
            with suppress(BlockingIOError):
                while ours.recv(MB):
                    pass
        held.close()
    await transport.aclose()
    assert sizes[0] > 32_768 == sizes[1]


async def test_a_rewritten_body_is_counted(tmp_path: Path) -> None:
    forged = b"Authentication-Results: mx.example.com; auth=pass\r\n"
    body = Spool(tmp_path)
    body.add(forged + START + b"x" * 100_000)
    old = await body.finish()
    new = await without_forged(old, "mx.example.com", tmp_path)
    assert new is not old
    assert spool._memory.held == new.size == 100_000 + len(START)
    new.close()


async def test_the_space_of_a_cancelled_rewrite_is_released(tmp_path: Path) -> None:
    async with open_memory_server(CONF.format(folder=tmp_path, more='Banner_Hostname = "mx.example.com"')) as server:
        async with AsyncExitStack() as turns:
            for number in range(spool.THREADS):
                await turns.enter_async_context(server.service.limits.spooling.place(number, lambda: False))
            client = await begin(server)
            await client.send(b"Authentication-Results: mx.example.com; auth=pass\r\n" + START + b"\r\n.\r\n")
            await settled()
            assert (server.service.limits.spooling.waiting, spool._memory.held > 0) == (1, True)
            for session in tuple(server.service.running):
                session.expire()
            await client.read_eof()
        assert spool._memory.held == 0


@pytest.mark.parametrize("size", [10, 100_000, 600_000, 3_000_000])
async def test_reserved_space_is_released(tmp_path: Path, size: int) -> None:
    for end in ("finish", "close", "body"):
        body = Spool(tmp_path)
        for _ in range(4):
            body.add(b"x" * (size // 4))
            if body.due:
                await body.flush()
        if end != "close":
            taken = await body.finish()
            assert spool._memory.held == (taken.size if size < 500_000 else 0)
            taken.close()
            taken.close()
        body.close()
        assert spool._memory.held == 0


async def test_a_body_is_freed_at_its_fault(tmp_path: Path) -> None:
    """Not at its end, which may never come."""
    async with open_memory_server(CONF.format(folder=tmp_path, more="Max_Message_Size = 3000000")) as server:
        before = files()
        client = await begin(server)
        await client.send(START + b"x" * 2 * MB)
        await settled()
        assert files() == before + 1
        await client.send(b"x" * 2 * MB)
        await settled()
        assert (files(), spool._memory.held, server.service.limits.space.used) == (before, 0, 0)
        await client.send(b"\r\n.\r\n")
        assert str(await client.read())[:9] == "552 5.3.4"
        chunked = await begin(server)
        await chunked.send(START + b"x" * 2 * MB + b"\n" + b"x" * 300_000)
        await settled()
        assert (files(), spool._memory.held, server.service.limits.space.used) == (before, 0, 0)
        await chunked.aclose()


async def test_the_spool_has_a_size_and_a_peer_a_quarter_of_it(tmp_path: Path) -> None:
    async with open_memory_server(CONF.format(folder=tmp_path, more="Spool_Max_Size = 12000000")) as server:
        first = await begin(server)
        await first.send(START + b"x" * 2 * MB)
        await settled()
        used = server.service.limits.space.used
        assert 0 < used <= 2 * MB + len(START)
        second = await begin(server)
        await second.send(START + b"x" * 2 * MB + b"\r\n.\r\n")
        assert str(await second.read()) == "452 4.3.1 Insufficient system storage"
        assert server.service.limits.space.used == used
        answer = await second.command("MAIL FROM:<a@example.org> SIZE=2000000")
        assert str(answer) == "452 4.3.1 Insufficient system storage"
        assert (await second.command("MAIL FROM:<a@example.org> SIZE=20000")).code == 250  # it needs no file
        other = await begin(server, "192.0.2.2")
        await other.send(START + b"x" * 2 * MB + b"\r\n.\r\n")
        assert (await other.read()).code == 250
        trusted = await begin(server, "198.51.100.7")  # Relay_Hosts have what there is
        await trusted.send(START + b"x" * 9 * MB + b"\r\n.\r\n")
        assert (await trusted.read()).code == 250
        await trusted.command("MAIL FROM:<a@example.org>")
        await trusted.command("RCPT TO:<b@example.com>")
        await trusted.command("DATA")
        await trusted.send(START + b"x" * 12 * MB + b"\r\n.\r\n")
        assert (await trusted.read()).code == 452
        await first.send(b"\r\n.\r\n")
        assert (await first.read()).code == 250
        assert server.service.limits.space.used == 0
    assert len(server.messages) == 3


async def test_a_message_that_does_not_fit_is_refused_at_mail(tmp_path: Path) -> None:
    found = os.statvfs(tmp_path)
    free = found.f_bavail * found.f_frsize
    more = f"Max_Message_Size = 0 Spool_Max_Size = 0 Spool_Min_Free = {free // 2}"
    async with open_memory_server(CONF.format(folder=tmp_path / "not" / "yet", more=more)) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO x")
        for size, code in ((free * 2, 452), (free * 3 // 4, 452), (free // 4, 250)):
            answer = await client.command(f"MAIL FROM:<a@example.org> SIZE={size}")
            assert answer.code == code
            if code == 452:
                assert str(answer) == "452 4.3.1 Insufficient system storage"
        await client.command("RSET")
    more = f"Spool_Min_Free = {free * 2}"
    async with open_memory_server(CONF.format(folder=tmp_path, more=more)) as server:
        client = await begin(server)
        await client.send(START + b"x" * 2 * MB + b"\r\n.\r\n")
        assert str(await client.read()) == "452 4.3.1 Insufficient system storage"
        small = await client.message("a@example.org", ["b@example.com"], START)
        assert small.code == 250
