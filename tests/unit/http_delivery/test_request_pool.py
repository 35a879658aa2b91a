"""The connections to an application: as many as there are slots, used again, and closed if others need their slots."""

from collections.abc import AsyncGenerator
from functools import partial

import pytest
import trio
from http_server import HTTPServer, Request, http_server

from triosmtp.http_client.http_client import HTTPClient
from triosmtp.http_delivery.request_pool import RequestPool
from triosmtp.limits.target_slots import TargetSlots


def pool_of(slots: TargetSlots, idle_seconds: float = 30) -> RequestPool:
    return RequestPool(partial(HTTPClient, None, connections=1, user_agent="x"), slots, idle_seconds)


async def post(pool: RequestPool, server: HTTPServer) -> None:
    async def body() -> AsyncGenerator[bytes, None]:
        yield b"x"

    async with pool.client() as client:
        assert (await client.post(f"{server.url}/", [], 1, body, max_answer=100)).status == 200


async def many(server: HTTPServer, stream: trio.abc.Stream, _request: Request) -> None:
    """Answer, and read the next request on the same connection."""
    while True:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        if await server._read(stream) is None:
            return


async def test_requests_share_the_connections_of_two_configurations() -> None:
    slots = TargetSlots(2)
    before, after = pool_of(slots), pool_of(slots)
    async with http_server(many) as server:
        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(post, after if number % 2 else before, server)
        assert slots.open <= 2
        await before.aclose()
        await post(after, server)
        opened = server.connections
        await post(after, server)
        assert server.connections == opened, "used again"
        await after.aclose()
        assert slots.open == 0


async def test_a_connection_that_was_unused_too_long_is_closed(autojump_clock: trio.testing.MockClock) -> None:
    slots = TargetSlots(0)
    pool = pool_of(slots, 10)
    async with pool.client(), pool.client():
        assert slots.open == 2
    assert slots.open == 2
    await trio.sleep(11)
    async with pool.client():
        pass
    assert slots.open == 1, "the other one was too old"
    await pool.aclose()


async def test_a_request_that_failed_or_was_cancelled_leaves_no_connection() -> None:
    slots = TargetSlots(1)
    pool = pool_of(slots)
    with pytest.raises(ValueError, match="broken"):
        async with pool.client():
            raise ValueError("broken")
    with trio.CancelScope() as scope:
        async with pool.client():
            scope.cancel()
            await trio.sleep_forever()
    assert slots.open == 0
    async with pool.client():
        assert not slots.take_now("a"), "one request has one slot"
        await pool.aclose()
    assert slots.open == 0
