"""Connections: which Listen they belong to."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

import triosmtp
from triosmtp import Message, Server
from triosmtp.sockets.bound_socket import SocketChanges
from triosmtp.testing import ScriptedClient

ALL, ONE, TWO = "*", "127.0.0.1", "127.0.0.2"
MANY = 40


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("0.0.0.0", 0))
        port: int = sock.getsockname()[1]
        return port


def conf(port: int, *hosts: str, more: str = "") -> triosmtp.Config:
    """Return listens that say in their banners whose they are."""
    listens = [f'Listen "{host}:{port}" {{ Static_Banner = "220 {host}" }}' for host in hosts]
    return triosmtp.parse_config(f"ESMTP_Listener {{ {' '.join(listens)} {more} }}")


async def drop(message: Message) -> None:
    return None


@asynccontextmanager
async def serving(config: triosmtp.Config) -> AsyncIterator[Server]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(partial(triosmtp.serve, config, deliver=drop))
        nursery.cancel_scope.cancel()


async def banner(port: int, host: str) -> str:
    async with await trio.open_tcp_stream(host, port) as stream:
        return str(await ScriptedClient(stream).read()).removeprefix("220 ")


def connected(port: int, host: str) -> list[socket.socket]:
    """Return connections that nobody has accepted yet: the loop has had no turn."""
    return [socket.create_connection((host, port)) for _ in range(MANY)]


async def banners(connections: list[socket.socket]) -> set[str]:
    found = set()
    for each in connections:
        async with trio.SocketStream(trio.socket.from_stdlib_socket(each)) as stream:
            found.add(str(await ScriptedClient(stream).read()).removeprefix("220 "))
    return found


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
