"""The policy client of the fleet, and nodes that are away, come back, and are killed."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

import triosmtp
from examples.fleet.policy import main
from triosmtp.event import PolicyClientConnected, PolicyClientDisconnected, ServerEvent
from triosmtp.policy_client import PolicyClient
from triosmtp.testing import ScriptedClient


class Node:
    """A node of a fleet, which can be started again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.decided = trio.Event()  # set while a decider is connected

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[triosmtp.Server]:
        config = triosmtp.parse_config(f"""
            Relay_Domains = ( "example.com" ) Policy = ( "websocket:fleet" )
            ESMTP_Listener {{ Listen "127.0.0.1:0" {{ }} }}
            Policy_Listener {{ Listen "{self.path}" {{ }} }}
        """)
        async with trio.open_nursery() as nursery:
            serve = partial(triosmtp.serve, config, deliver=_drop, observers=[self.observe])
            yield await nursery.start(serve)
            nursery.cancel_scope.cancel()  # without a word to its clients

    def observe(self, event: ServerEvent) -> None:
        if isinstance(event, PolicyClientConnected):
            self.decided.set()
        elif isinstance(event, PolicyClientDisconnected):
            self.decided = trio.Event()


async def _drop(_message: triosmtp.Message) -> None:
    return None


async def answers(server: triosmtp.Server) -> list[int]:
    client = ScriptedClient(await trio.open_tcp_stream(*server.addresses["127.0.0.1:0"]))
    await client.read()
    await client.command("EHLO client.example.org")
    lines = ("MAIL FROM:<a@example.org>", "RCPT TO:<nobody@example.com>", "RCPT TO:<u@example.com>")
    codes = [(await client.command(line)).code for line in lines]
    await client.aclose()
    return codes


async def test_the_client_of_a_fleet_finds_each_node_that_comes_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first, second = Node(tmp_path / "1"), Node(tmp_path / "2")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(main, None, [f"unix:{second.path}", f"unix:{first.path}"])
        with trio.fail_after(30):
            async with first.serving() as server:
                await first.decided.wait()  # although the second node is away
                assert await answers(server) == [250, 550, 250]
                for _ in range(3):
                    async with second.serving() as node:
                        await second.decided.wait()
                        assert await answers(node) == [250, 550, 250]
                assert await answers(server) == [250, 550, 250]
        nursery.cancel_scope.cancel()
    assert caplog.text.count(f"unix:{second.path}: the connection was lost") >= 2
    assert caplog.text.count(f"unix:{second.path}: connected again") == 2


async def test_a_server_that_is_away_is_one_line_of_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    client = PolicyClient(f"unix:{tmp_path}/none", name="x")
    with trio.move_on_after(60):
        await client.run()
    assert len([record for record in caplog.records if record.name == "triosmtp.policy_client"]) == 1
