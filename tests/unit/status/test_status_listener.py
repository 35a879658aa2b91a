"""The connections of the status listener: their number, and how they end."""

import socket
from contextlib import suppress
from ipaddress import ip_address

import pytest
import trio
from status_server import MAIL, parse, read_all, serving

from triosmtp.sockets.peer import Peer
from triosmtp.status import status_listener

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def test_connections_are_counted_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_listener, "MAX_CONNECTIONS", 4)
    async with serving() as here:
        held = [await trio.open_tcp_stream("127.0.0.1", here.port) for _ in range(4)]
        for stream in held:  # so that each is known to be taken
            await stream.send_all(GET)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        async with await trio.open_tcp_stream("127.0.0.1", here.port) as one_more:
            assert parse(await read_all(one_more)).status == 503
        await held.pop().aclose()
        while True:  # as soon as the server has noticed
            async with await trio.open_tcp_stream("127.0.0.1", here.port) as stream:
                with trio.fail_after(10):
                    try:
                        await stream.send_all(GET)
                        if (await stream.receive_some()).startswith(b"HTTP/1.1 200"):
                            break
                    except trio.BrokenResourceError:
                        continue
        for stream in held:
            await stream.aclose()


async def test_one_address_of_another_host_holds_a_part_of_them_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_listener, "MAX_CONNECTIONS_PER_PEER", 2)
    async with serving() as here:
        (binding,) = here.status._bindings
        ends = []
        for address in ("192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"):
            ours, theirs = socket.socketpair()
            theirs.setblocking(False)
            here.status._accept_connection(here.nursery, binding, theirs, Peer(f"{address}:5", ip_address(address), 5))
            ours.setblocking(False)
            ends.append(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
        statuses = []
        for end in ends:
            with suppress(trio.BrokenResourceError):
                await end.send_all(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            statuses.append(parse(await read_all(end)).status)
            await end.aclose()
        assert statuses == [200, 200, 503, 200]


async def test_a_connection_ends_with_its_listener() -> None:
    async with serving() as here, await trio.open_tcp_stream("127.0.0.1", here.port) as client:
        await client.send_all(GET)
        assert b"connection: close" not in await client.receive_some()
        await here.reload(MAIL)
        await client.send_all(GET)
        response = parse(await read_all(client))
        assert (response.status, response.headers["connection"]) == (503, "close")
