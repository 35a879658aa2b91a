"""The places of policy clients, and the share of one address."""

import socket
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import trio
import trio.testing

import triosmtp
from triosmtp.event import PolicyClientRefused, ServerEvent
from triosmtp.sockets.peer import Peer


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
