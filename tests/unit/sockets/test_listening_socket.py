"""The path of a Unix socket: its mode, its end, and another server at the same path."""

import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

import triosmtp
from triosmtp import ConfigError, Message, Server
from triosmtp.testing import ScriptedClient

LISTEN = "127.0.0.1:0"
clients: list[ScriptedClient] = []  # of the test that runs; closed when its server ends


def conf(options: str = "", listen: str = LISTEN, body: str = "") -> str:
    return f'Relay_Domains = ( "example.com" )\n{options}\nESMTP_Listener {{ Listen "{listen}" {{ {body} }} }}'


@asynccontextmanager
async def serving(text: str, **kwargs: object) -> AsyncIterator[Server]:
    async with trio.open_nursery() as nursery:
        serve = partial(triosmtp.serve, triosmtp.parse_config(text), **{"deliver": drop, **kwargs})  # type: ignore[arg-type]
        try:
            yield await nursery.start(serve)
        finally:
            for client in clients:
                await client.aclose()
            clients.clear()
            nursery.cancel_scope.cancel()


async def drop(message: Message) -> None:
    return None


async def connect(server: Server, listen: str = LISTEN) -> ScriptedClient:
    if listen in server.addresses:
        clients.append(ScriptedClient(await trio.open_tcp_stream(*server.addresses[listen])))
    else:
        clients.append(ScriptedClient(await trio.open_unix_socket(listen)))
    return clients[-1]


async def test_a_unix_socket_has_its_mode_and_is_removed_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "smtp.sock"
    async with serving(conf(listen=str(path), body="File_Mode = 0640")) as server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        client = await connect(server, str(path))
        assert (await client.read()).code == 220
        await client.command("EHLO c.example.org")
        assert (await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")).code == 250
        await client.aclose()
    assert not path.exists()


async def test_a_unix_socket_that_another_server_took_over_stays(tmp_path: Path) -> None:
    path = tmp_path / "smtp.sock"
    with socket.socket(socket.AF_UNIX) as other:
        async with serving(conf(listen=str(path))):
            path.rename(tmp_path / "old.sock")
            other.bind(str(path))
        assert path.exists()


async def test_a_stale_unix_socket_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "smtp.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serving(conf(listen=str(path))) as server:
        assert (await (await connect(server, str(path))).read()).code == 220
    path.write_text("precious")
    with pytest.RaisesGroup(ConfigError, allow_unwrapped=True, flatten_subgroups=True):
        async with serving(conf(listen=str(path))):
            pass
    assert path.read_text() == "precious"
