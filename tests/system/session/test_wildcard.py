"""A wildcard and Listens of single addresses: one socket, and the Listen by the connection's own address."""

import socket

import pytest
import trio
from wildcard_listens import MANY, banner, banners, conf, connected, free_port, serving

import triosmtp
from triosmtp.event import ConfigurationReloaded
from triosmtp.server.acceptor import Acceptor
from triosmtp.sockets.peer import Peer
from triosmtp.testing import ScriptedClient

ALL, ONE, TWO = "*", "127.0.0.1", "127.0.0.2"


async def test_each_has_its_own_limits_and_options() -> None:
    port = free_port()
    text = f"""ESMTP_Listener {{
        Listen "*:{port}" {{ Listener_Sessions = 1 }}
        Listen "{ONE}:{port}" {{ Listener_Sessions = 2 Peer "127.0.0.0/8" {{ Static_Banner = "220 peer" }} }}
    }}"""
    async with serving(triosmtp.parse_config(text)) as server:
        clients = [ScriptedClient(await trio.open_tcp_stream(host, port)) for host in (TWO, TWO, ONE, ONE, ONE)]
        codes = [(await client.read()).code for client in clients]
        assert codes == [220, 421, 220, 220, 421]
        assert dict(server.service.limits.admission.sessions_by_listener) == {f"*:{port}": 1, f"{ONE}:{port}": 2}
        for client in clients:
            await client.aclose()


@pytest.mark.parametrize("nagle", [True, False])
async def test_a_guest_sets_nodelay_on_its_own_connections(nagle: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    text = f"""ESMTP_Listener {{
        Listen "*:{port}" {{ Disable_Nagle_Algorithm = {str(nagle).lower()} }}
        Listen "{ONE}:{port}" {{ Disable_Nagle_Algorithm = {str(not nagle).lower()} }}
    }}"""
    seen: dict[str, int] = {}
    accept = Acceptor.accept

    def watch(self: Acceptor, listen: triosmtp.config.Listen, sock: socket.socket, peer: Peer, local: str) -> None:
        seen[listen.name] = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        accept(self, listen, sock, peer, local)

    monkeypatch.setattr(Acceptor, "accept", watch)
    async with serving(triosmtp.parse_config(text)):
        await banner(port, ONE)
        await banner(port, TWO)
    assert {name: bool(value) for name, value in seen.items()} == {f"*:{port}": nagle, f"{ONE}:{port}": not nagle}


async def test_a_reload_that_adds_and_removes_a_guest_leaves_the_socket_alone() -> None:
    port = free_port()
    async with serving(conf(port, ALL)) as server:
        (binding,) = server._sockets
        for hosts, expected in (((ALL, ONE), ONE), ((ALL, ONE, TWO), ONE), ((ALL, TWO), ALL), ((ALL,), ALL)):
            pending = [*connected(port, ONE), *connected(port, ONE)]
            await server.reload(conf(port, *hosts))
            assert server._sockets == [binding]
            found = await banners(pending)
            assert found <= {ALL, ONE}
            assert await banner(port, ONE) == expected
            assert set(server.addresses) == {f"{host}:{port}" for host in hosts}
        assert server.statistics.sessions_total == 4 * (2 * MANY + 1)


async def test_a_reload_reports_listens_beside_a_wildcard_too() -> None:
    port = free_port()
    events: list[ConfigurationReloaded] = []
    async with serving(conf(port, ALL, ONE)) as server:
        events.append(await server.reload(conf(port, ALL, ONE, TWO)))
        events.append(await server.reload(conf(port, ALL, TWO)))
    one, two, all_ = f"{ONE}:{port}", f"{TWO}:{port}", f"*:{port}"
    assert [(each.opened, each.closed, each.kept) for each in events] == [
        ((two,), (), (all_, one)),
        ((), (one,), (all_, two)),
    ]
