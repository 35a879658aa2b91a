"""Connections: which Listen they belong to."""

import socket

import pytest
import trio
from wildcard_listens import MANY, banner, banners, conf, connected, free_port, serving

import triosmtp
from triosmtp import Server
from triosmtp.sockets.bound_socket import SocketChanges
from triosmtp.testing import ScriptedClient

ALL, ONE, TWO = "*", "127.0.0.1", "127.0.0.2"


@pytest.mark.parametrize("wildcard", [ALL, "", "0.0.0.0"])
@pytest.mark.parametrize("first", [True, False])
async def test_the_more_specific_listen_wins(wildcard: str, first: bool) -> None:
    port = free_port()
    hosts = [wildcard, ONE, TWO] if first else [ONE, TWO, wildcard]
    async with serving(conf(port, *hosts)) as server:
        assert await banner(port, "127.0.0.1") == ONE
        assert await banner(port, "127.0.0.2") == TWO
        assert await banner(port, "127.0.0.3") == wildcard
        if wildcard != "0.0.0.0" and socket.has_dualstack_ipv6():
            assert await banner(port, "::1") == wildcard
        assert server.addresses[f"{ONE}:{port}"] == (ONE, port)
        assert server.addresses[f"{wildcard}:{port}"][1] == port
        assert len(server.addresses) == 3


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
async def test_both_families_have_their_wildcards_and_their_guests() -> None:
    port = free_port()
    async with serving(conf(port, ALL, ONE, "[*]", "[::1]")):
        assert await banner(port, "127.0.0.1") == ONE
        assert await banner(port, "127.0.0.2") == ALL
        assert await banner(port, "::1") == "[::1]"
    async with serving(conf(port, ONE, "[*]")):  # nothing is shared here
        assert await banner(port, "127.0.0.1") == ONE
        assert await banner(port, "::1") == "[*]"


@pytest.mark.parametrize(
    ("before", "after"), [((ONE, TWO), (ALL, ONE)), ((ALL, TWO), (ONE, TWO)), ((ALL, ONE), (ONE,))]
)
async def test_sockets_that_are_handed_over_lose_no_waiting_client(
    before: tuple[str, ...], after: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    pending: list[socket.socket] = []
    plan = Server._plan

    def connect_at_the_last_moment(self: Server, config: triosmtp.Config) -> SocketChanges:
        pending.extend(connected(port, ONE))  # from here on the loop has no turn until the old socket is closed
        planned = plan(self, config)
        pending.extend(connected(port, ONE))
        return planned

    async with serving(conf(port, *before)) as server:
        monkeypatch.setattr(Server, "_plan", connect_at_the_last_moment)
        await server.reload(conf(port, *after))
        assert await banners(pending) == {ONE}
        assert await banner(port, ONE) == ONE
        if ALL in after:
            assert await banner(port, "127.0.0.3") == ALL
        else:
            with pytest.raises(OSError):
                await trio.open_tcp_stream("127.0.0.3", port)
        assert server.statistics.sessions_total >= 2 * MANY + 1


@pytest.mark.parametrize(("after", "expected"), [((ALL,), ALL), ((ALL, ONE), ONE)])
async def test_a_proxied_connection_belongs_where_it_came_to(after: tuple[str, ...], expected: str) -> None:
    port = free_port()
    proxied = 'Proxy_Protocol = ( "127.0.0.0/8" )'
    async with serving(conf(port, ALL, ONE, more=proxied)) as server:
        client = ScriptedClient(await trio.open_tcp_stream(ONE, port))
        await trio.testing.wait_all_tasks_blocked()  # it is waited for its header
        await server.reload(conf(port, *after, more=proxied))
        # The destination address in the proxy's header does not decide.
        await client.stream.send_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1024 25\r\n")
        assert str(await client.read()) == f"220 {expected}"
        await client.aclose()


async def test_connections_with_milters_are_fewer_so_that_each_has_its_milter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triosmtp.server.acceptor.max_connections", lambda: 9)
    port = free_port()
    milter = 'Policy = ( "milter:inet:127.0.0.1:9" ) Policy_Fallback = "continue"'
    async with serving(conf(port, ONE, more=milter)) as server:
        assert server._acceptor.capacity() == 4
        assert await banner(port, ONE) == ONE
        await server.reload(conf(port, ONE))
        assert server._acceptor.capacity() == 9
        await server.reload(conf(port, ONE, more=milter))
        assert server._acceptor.capacity() == 4
