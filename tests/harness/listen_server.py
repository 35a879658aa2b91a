"""Serve one Listen in this process, and connect to it over a socket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio
import trio.testing

import triosmtp
from triosmtp import Message, Server
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
