"""Real sockets: listeners, limits, the transport stream, and an orderly end."""

import errno
import os
import socket

import pytest
import trio
import trio.testing
from listen_server import LISTEN, conf, connect, drop, serving

import triosmtp
from triosmtp import ConfigError
from triosmtp.event import ConnectionRefused, ServerEvent
from triosmtp.testing import ScriptedClient


async def test_a_wildcard_takes_ipv4_and_ipv6() -> None:
    async with serving(conf(listen=":0")) as server:
        port = server.addresses[":0"][1]
        hosts = ["127.0.0.1"] + (["::1"] if socket.has_dualstack_ipv6() else [])
        for host in hosts:
            client = ScriptedClient(await trio.open_tcp_stream(host, port))
            assert (await client.read()).code == 220
            await client.aclose()


async def test_a_busy_port_is_a_configuration_error_with_its_place() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        with pytest.raises(ConfigError) as caught:
            await triosmtp.serve(
                triosmtp.parse_config(conf(listen=f"127.0.0.1:{busy.getsockname()[1]}"), "my.conf"), deliver=drop
            )
    [problem] = caught.value.problems
    assert os.strerror(errno.EADDRINUSE) in problem.message
    assert str(problem.position).startswith("my.conf:3:")


@pytest.mark.parametrize("limit", ["Listener_Sessions", "Service_Sessions"])
async def test_over_a_session_limit_is_421_until_a_session_ends(limit: str) -> None:
    events: list[ServerEvent] = []
    async with serving(conf(f"{limit} = 2"), observers=[events.append]) as server:
        first, second = await connect(server), await connect(server)
        assert [(await c.read()).code for c in (first, second)] == [220, 220]
        third = await connect(server)
        assert str(await third.read()) == "421 Too many connections, try again later"
        assert await third.read_eof() == b""
        assert [e.reason for e in events if isinstance(e, ConnectionRefused)] == [limit]
        assert (await first.command("QUIT")).code == 221
        await first.read_eof()
        while server.statistics.sessions > 1:
            await trio.testing.wait_all_tasks_blocked()
        fourth = await connect(server)
        assert (await fourth.read()).code == 220
        for client in (second, third, fourth):
            await client.aclose()


async def test_a_peer_that_resets_does_not_stop_the_server() -> None:
    events: list[ServerEvent] = []
    async with serving(conf(), observers=[events.append]) as server:
        with socket.create_connection(server.addresses[LISTEN]) as rude:
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client = await connect(server)
        assert (await client.read()).code == 220
        await client.aclose()
