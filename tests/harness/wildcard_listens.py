"""Listens of one port: a wildcard and addresses beside it."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

import triosmtp
from triosmtp import Message, Server
from triosmtp.testing import ScriptedClient

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
