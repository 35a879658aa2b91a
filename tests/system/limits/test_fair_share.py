"""What is shared by all peers is shared fairly: turns at the spool, and places for policy clients."""

import threading
from pathlib import Path

import pytest
import trio
import trio.testing

from triosmtp.limits.fair_queue import FairQueue
from triosmtp.message.spool import Spool
from triosmtp.testing import MemoryServer, ScriptedClient, open_memory_server

CONF = """
Relay_Domains = ( "example.com" )
Spool_Directory = "{folder}/spool"
ESMTP_Listener {{ Listen ":25" {{ }} }}
"""
BODY = b"Subject: x\r\n\r\n" + b"0123456789abcdef\r\n" * 60_000 + b".\r\n"  # more than a spool keeps in memory


async def send(server: MemoryServer, peer: str) -> ScriptedClient:
    client = server.connect(peer=peer)
    await client.read()
    await client.command("EHLO x")
    await client.command("MAIL FROM:<a@example.org>")
    await client.command("RCPT TO:<b@example.com>")
    await client.command("DATA")
    await client.send(BODY)
    await trio.testing.wait_all_tasks_blocked()
    return client


async def test_peers_take_turns_at_the_spool_in_threads_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, released, written = Spool._write, threading.Semaphore(0), trio.Event()
    order: list[Spool] = []

    def held(spool: Spool) -> None:
        trio.from_thread.run_sync(order.append, spool)
        trio.from_thread.run_sync(written.set)
        assert released.acquire(timeout=60)
        write(spool)

    async with open_memory_server(CONF.format(folder=tmp_path)) as server:
        server.service.limits.spooling = FairQueue(1, waiting=100, waiting_per_peer=100)
        monkeypatch.setattr(Spool, "_write", held)
        try:
            clients = [await send(server, "192.0.2.1") for _ in range(4)]
            clients.append(await send(server, "192.0.2.2"))
            await written.wait()  # the first one is in its thread
            assert (len(order), server.service.limits.spooling.waiting) == (1, 4)
            # However many spool files hang, the threads of all else are free.
            assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
            for _ in range(2):
                written = trio.Event()
                released.release()
                await written.wait()
            spools = {
                driver._state.transaction._spool: driver.session.peer.partition(":")[0]  # type: ignore[attr-defined]
                for driver in server.service.running
            }
            # The last client waits for one of the four others, not for all.
            assert [spools[spool] for spool in order] == ["192.0.2.1", "192.0.2.1", "192.0.2.2"]
        finally:
            for _ in range(100):
                released.release()
        for client in clients:
            assert (await client.read()).code == 250
    assert len(server.messages) == 5
