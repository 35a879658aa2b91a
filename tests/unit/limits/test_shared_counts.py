"""Counts over several nodes in a real Redis: what counts, what a dead Redis costs, and how it comes back."""

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest
import trio
from redis_server import RedisServer, running_redis

from triosmtp.limits.redis_store import RedisStore
from triosmtp.limits.shared_counts import SharedCounts

PEER, OTHER = ip_address("192.0.2.1"), ip_address("192.0.2.2")


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


class Node:
    def __init__(self, url: str, password: str = "", seconds: float = 20) -> None:
        async def read() -> str:
            return password

        self.changes: list[tuple[bool, str]] = []
        self.now = 0.0
        store = RedisStore(
            url,
            read if password else None,
            seconds=seconds,
            on_change=lambda *, available, reason: self.changes.append((available, reason)),
            clock=lambda: self.now,
        )
        self.counts = SharedCounts(store)


@asynccontextmanager
async def nodes(*nodes: Node) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for node in nodes:
            await nursery.start(node.counts.run)
        yield
        nursery.cancel_scope.cancel()


async def test_nodes_count_together(redis: RedisServer) -> None:
    one, two = Node(redis.url), Node(redis.url)
    async with nodes(one, two):
        answers = [await node.counts.count("together", PEER, (3, 60)) for node in (one, two, one, two, one)]
        assert answers == [True, True, True, False, False]
        assert await two.counts.count("together", OTHER, (3, 60)), "each peer has a count of its own"
        assert await two.counts.count("another option", PEER, (3, 60))
        network = [ip_address(text) for text in ("2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1")]
        assert [await one.counts.count("together", each, (1, 60)) for each in network] == [True, False, True]
    assert one.changes == two.changes == []


async def test_the_time_begins_with_the_first_event(redis: RedisServer) -> None:
    node = Node(redis.url)
    async with nodes(node):
        assert [await node.counts.count("time", PEER, (1, 0.2)) for _ in range(2)] == [True, False]
        with trio.fail_after(10):
            while not await node.counts.count("time", PEER, (1, 0.2)):  # noqa: ASYNC110
                await trio.sleep(0.02)  # the clock is that of the Redis


async def test_a_count_is_undone_once(redis: RedisServer) -> None:
    node = Node(redis.url)
    async with nodes(node):
        assert await node.counts.count("undone", PEER, (1, 60))
        for _ in range(3):  # never below nothing
            node.counts.uncount("undone", PEER)
        with trio.fail_after(10):
            while node.counts._uncounts:  # noqa: ASYNC110 - the Redis has no other sign of it
                await trio.sleep(0.01)
        assert await node.counts.count("undone", PEER, (1, 60))
        assert not await node.counts.count("undone", PEER, (1, 60))


async def test_a_store_that_hangs_is_asked_again_after_ten_seconds(redis: RedisServer) -> None:
    node = Node(redis.url, seconds=0.5)  # a busy machine needs some of it
    async with nodes(node):
        assert await node.counts.count("hangs", PEER, (5, 60))
        redis.send_signal(signal.SIGSTOP)
        try:
            assert await node.counts.count("hangs", PEER, (5, 60)) is None
            node.now = 9.9
            assert await node.counts.count("hangs", PEER, (5, 60)) is None
        finally:
            redis.send_signal(signal.SIGCONT)
        assert node.changes == [(False, "no answer in 500 ms")], "once"
        assert await node.counts.count("hangs", PEER, (5, 60)) is None, "it is not asked yet"
        node.now = 10.0
        with trio.fail_after(10):
            while await node.counts.count("hangs", PEER, (5, 60)) is None:
                node.now += 10.0
        assert node.changes[-1] == (True, "")


async def test_a_store_that_is_away_is_no_error_and_may_come_back() -> None:
    with running_redis() as server:
        server.kill()
        node = Node(server.url)
        async with nodes(node):
            assert await node.counts.count("away", PEER, (5, 60)) is None
            assert not node.changes[0][0]
            server.start()
            node.now = 10.0
            assert await node.counts.count("away", PEER, (5, 60)) is True
            server.kill()
            node.now = 20.0
            assert await node.counts.count("away", PEER, (5, 60)) is None
        assert [available for available, _ in node.changes] == [False, True, False]


@pytest.mark.parametrize(("password", "answer"), [("right", True), ("wrong", None), ("", None)])
async def test_the_password_of_the_store(password: str, answer: bool | None) -> None:
    with running_redis("--requirepass", "right") as server:
        node = Node(server.url, password)
        async with nodes(node):
            assert await node.counts.count("password", PEER, (5, 60)) is answer
        assert all(password not in reason for _, reason in node.changes if password)


async def test_nothing_is_counted_before_it_runs(redis: RedisServer) -> None:
    assert await Node(redis.url).counts.count("early", PEER, (1, 60)) is None
