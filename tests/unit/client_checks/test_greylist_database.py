"""Both memories of greylisting do the same: the file of one server, and the Redis of all nodes."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from redis_server import RedisServer, running_redis

from triosmtp.client_checks.greylist import GreylistKeys, GreylistStore
from triosmtp.client_checks.greylist_database import GreylistDatabase
from triosmtp.client_checks.greylist_redis import GreylistRedis
from triosmtp.limits.redis_store import RedisStore

DAY = 86400.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


def report(*, available: bool, reason: str) -> None:
    raise AssertionError(f"{available} {reason}")


@asynccontextmanager
async def in_redis(clock: Clock, redis: RedisServer, _folder: Path) -> AsyncIterator[GreylistStore]:
    store = GreylistRedis(RedisStore(redis.url, seconds=20, on_change=report), now=clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        await trio.testing.wait_all_tasks_blocked()
        yield store
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def in_file(clock: Clock, _redis: RedisServer, folder: Path) -> AsyncIterator[GreylistStore]:
    store = GreylistDatabase(folder / "state" / "greylist.sqlite", now=clock)
    yield store
    store.close()


@pytest.mark.parametrize("opened", [in_file, in_redis])
async def test_a_message_passes_after_the_delay_and_then_a_network_does(
    redis: RedisServer, tmp_path: Path, opened: Callable[..., object]
) -> None:
    clock = Clock()
    async with opened(clock, redis, tmp_path) as store:  # type: ignore[attr-defined]

        async def wait(message: str, client: str = "net") -> float:
            seconds: float = await store.wait(GreylistKeys(message, client), 300.0)
            return seconds

        assert await wait("one") == 300
        clock.now += 100
        assert await wait("one") == 200
        assert await wait("another") == 300
        clock.now += 200
        assert await wait("one") == 0
        assert await wait("one") == 0, "at once, again"
        assert await wait("another") == 100, "five must have passed"
        for number in range(4):
            assert await wait(f"more {number}") == 300
        clock.now += 300
        for number in range(4):
            assert await wait(f"more {number}") == 0
        assert await wait("new") == 0, "the network has passed"
        assert await wait("new", "another net") == 300


async def test_what_was_not_used_for_long_is_forgotten(tmp_path: Path) -> None:
    clock = Clock()
    store = GreylistDatabase(tmp_path / "greylist.sqlite", now=clock)
    keys, passed = GreylistKeys("waits", "a"), GreylistKeys("passed", "b")
    assert [await store.wait(each, 300) for each in (keys, passed)] == [300, 300]
    clock.now += 300
    assert await store.wait(passed, 300) == 0
    clock.now += 2 * DAY
    assert await store.wait(keys, 300) == 300, "it came two days later"
    clock.now += 30 * DAY
    assert await store.wait(passed, 300) == 0
    clock.now += 36 * DAY
    assert await store.wait(passed, 300) == 300
    store.close()


async def test_the_file_is_bounded_and_only_for_its_owner(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "greylist.sqlite"
    store = GreylistDatabase(path, max_rows=10, now=clock)
    for number in range(95):
        clock.now += 1
        await store.wait(GreylistKeys(f"{number}", "a"), 300)
    store.close()
    with sqlite3.connect(path) as connection:
        rows = [key for (key,) in connection.execute("SELECT key FROM attempt")]
    connection.close()
    assert len(rows) < 20
    assert "94" in rows
    assert path.stat().st_mode & 0o777 == 0o600


async def test_workers_share_the_file(tmp_path: Path) -> None:
    clock = Clock()
    one, two = (GreylistDatabase(tmp_path / "greylist.sqlite", now=clock) for _ in range(2))
    assert await one.wait(GreylistKeys("m", "a"), 300) == 300
    clock.now += 300
    assert await two.wait(GreylistKeys("m", "a"), 300) == 0
    one.close()
    two.close()


async def test_a_file_that_cannot_be_used_delays_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "greylist.sqlite"
    path.write_text("this is no database, and long enough to be seen as one that is broken" * 20)
    store = GreylistDatabase(path)
    for _ in range(3):
        assert await store.wait(GreylistKeys("m", "a"), 300) == 0
    assert len([each for each in caplog.messages if "messages do not wait" in each]) == 1
