"""What is shared by all peers is shared fairly: turns at the spool, and places for policy clients."""

import socket
import threading
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import pytest
import trio
import trio.testing

import triosmtp
from triosmtp.event import PolicyClientRefused, ServerEvent
from triosmtp.limits.fair_queue import FairQueue
from triosmtp.message.spool import Spool
from triosmtp.sockets.peer import Peer
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


async def test_one_address_does_not_hold_every_place_of_policy_clients(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0123456789abcdef")
    (tmp_path / "token").chmod(0o600)
    config = triosmtp.parse_config(
        'ESMTP_Listener { Listen "127.0.0.1:0" { } }\n'
        f'Policy_Listener {{ Token_File = "{tmp_path}/token" Listen "127.0.0.1:0" {{ }} }}\n'
    )
    events: list[ServerEvent] = []
    clients: list[socket.socket] = []

    async def discard(message: triosmtp.Message) -> None:
        return None

    async with trio.open_nursery() as nursery:
        serve = partial(triosmtp.serve, config, deliver=discard, observers=[events.append])
        server: triosmtp.Server = await nursery.start(serve)
        (binding,) = (each for each in server._sockets if each.listen.for_policy)

        def come(address: str) -> bool:
            """Connect, and say nothing; return whether there was a place."""
            ours, theirs = socket.socketpair()
            theirs.setblocking(False)
            clients.append(ours)
            server._accept(binding, theirs, Peer(f"[{address}]:1", ip_address(address), 1))
            return theirs.fileno() >= 0

        for number in range(32):
            assert come(f"2001:db8::{number:x}")
        assert not come("2001:db8::ffff")  # of the same /64
        for _ in range(31):
            assert come("127.0.0.1")
        assert come("192.0.2.1")
        assert not come("192.0.2.2")
        reasons = [event.reason for event in events if isinstance(event, PolicyClientRefused)]
        assert reasons == ["32 clients of this address are connected already", "64 clients are connected already"]
        for client in clients:
            client.close()
        await trio.testing.wait_all_tasks_blocked()
        assert server._policy_listener.clients == len(server._policy_listener._clients) == 0
        assert come("2001:db8::1")
        clients[-1].close()
        nursery.cancel_scope.cancel()
