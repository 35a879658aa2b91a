"""The turns of sessions: a session may gather fewer replies if many sessions are ready."""

import statistics

import pytest
import trio

from triosmtp.server.service import Service
from triosmtp.testing import MemoryServer, open_memory_server

CONF = """
Relay_Domains = ( "example.com" )
Max_Junk_Commands = 0
ESMTP_Listener { Listen ":25" { } }
"""
PIPELINED = 1000


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how many replies a session may gather, each time that one yields its turn."""
    seen: list[int] = []
    yield_turn = Service.yield_turn

    async def record(service: Service) -> None:
        seen.append(service.replies_per_turn)
        await yield_turn(service)

    monkeypatch.setattr(Service, "yield_turn", record)
    return seen


async def flood(server: MemoryServer, floods: int) -> None:
    clients = [server.connect() for _ in range(floods)]
    for client in clients:
        await client.read()
        await client.command("EHLO c.example.org")
    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(client.send, b"NOOP\r\n" * PIPELINED + b"QUIT\r\n")
    for client in clients:
        for _ in range(PIPELINED):
            assert (await client.read()).code == 250
        assert (await client.read()).code == 221


async def test_one_alone_gathers_many(turns: list[int]) -> None:
    async with open_memory_server(CONF) as server:
        await flood(server, 1)
    assert turns == [256] * (PIPELINED // 256)


async def test_of_many_each_gathers_few(turns: list[int]) -> None:
    async with open_memory_server(CONF) as server:
        await flood(server, 40)
        assert server.service.replies_per_turn == 256
    assert turns[0] == 256
    assert min(turns) == 256 // 40
    assert statistics.median(turns) <= 16
    assert len(turns) > 40 * PIPELINED / 64
