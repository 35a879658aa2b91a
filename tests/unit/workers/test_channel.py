"""The channel between a supervisor and a worker, with both ends in one process."""

import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from attrs import frozen

from triosmtp import ConfigError
from triosmtp.errors import Problem, Severity
from triosmtp.workers import channel as channel_module
from triosmtp.workers.channel import Channel, ChannelClosedError
from triosmtp.workers.worker_messages import WorkerRequest


@frozen
class Note:
    value: Any


@frozen
class Fail:
    """A notification whose handler raises an exception."""


@frozen
class Double(WorkerRequest[Any]):
    value: Any


@frozen
class Refuse(WorkerRequest[None]):
    error: Exception


@frozen
class Never(WorkerRequest[None]):
    """A request without an answer."""


@frozen
class Unknown(WorkerRequest[None]):
    """A request without a handler."""


class End:
    """One end, whose handlers record the messages."""

    def __init__(self, sock: socket.socket, *, waits: bool = True) -> None:
        self.posted: list[Any] = []
        self.channel = Channel(sock, waits=waits)

    async def run(self) -> None:
        await self.channel.run(
            {Note: lambda message: self.posted.append(message.value), Fail: self._fail},
            {Double: self._double, Refuse: self._refuse, Never: self._never},
        )

    def _fail(self, _: Fail) -> None:
        raise RuntimeError("a notification that fails")

    async def _double(self, message: Double) -> Any:
        await trio.lowlevel.checkpoint()
        return message.value * 2

    async def _never(self, _: Never) -> None:
        await trio.sleep_forever()

    async def _refuse(self, message: Refuse) -> None:
        raise message.error


@asynccontextmanager
async def ends(**options: Any) -> AsyncIterator[tuple[End, End]]:
    ours, theirs = socket.socketpair()
    one, other = End(ours, **options), End(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        nursery.start_soon(other.run)
        yield one, other
        nursery.cancel_scope.cancel()


async def test_posts_keep_their_order_and_calls_are_answered() -> None:
    async with ends() as (one, other):
        for number in range(5000):
            one.channel.send(Note(number))
        one.channel.send(Note(b"x" * 3_000_000))  # more than any buffer of the kernel's
        one.channel.send(Fail())
        assert await one.channel.request(Double("ab")) == "abab"
        assert other.posted[:5000] == list(range(5000))
        assert len(other.posted[5000]) == 3_000_000
        answers: list[int] = []

        async def ask(channel: Channel, number: int) -> None:
            answers.append(await channel.request(Double(number)))

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(ask, (one if number % 2 else other).channel, number)
        assert sorted(answers) == list(range(0, 200, 2))


class Awkward(Exception):
    """An error that cannot be made again from what it tells."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


async def test_errors_arrive_as_what_they_are() -> None:
    async with ends() as (one, _):
        problem = Problem(Severity.ERROR, "no such file")
        with pytest.raises(ConfigError) as caught:
            await one.channel.request(Refuse(ConfigError([problem])))
        assert caught.value.problems == (problem,)
        with pytest.raises(ValueError, match="a key"):
            await one.channel.request(Refuse(ValueError("a key")))
        with pytest.raises(KeyError):
            await one.channel.request(Unknown())


async def test_the_end_of_one_end_is_told() -> None:
    async with ends() as (one, other):
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(ChannelClosedError):
                    await one.channel.request(Never())

            nursery.start_soon(ask)
            other.channel.send(Note("last words"))
            await trio.testing.wait_all_tasks_blocked(0.05)
            other.channel.close()
        await one.channel.closed.wait()
        assert one.posted == ["last words"]
        with pytest.raises(ChannelClosedError):
            await one.channel.request(Double(1))
        one.channel.send(Note("to nobody"))


async def test_who_says_too_much_waits_for_who_listens() -> None:
    ours, theirs = socket.socketpair()
    end = End(ours)
    read: list[int] = []

    def reader() -> None:
        while data := theirs.recv(1 << 20):
            read.append(len(data))

    thread = threading.Thread(target=reader)
    thread.start()
    for number in range(1000, 4000):  # without a turn of the loop in between
        end.channel.send(Note(str(number) * 250))
    waiting = len(end.channel._queue)
    assert waiting <= 2001
    end.channel.close()
    thread.join(30)
    theirs.close()
    assert sum(read) > 1_000_000


async def test_who_does_not_listen_is_given_up_by_one_who_may_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "_MAX_UNREAD", 1_000_000)
    ours, theirs = socket.socketpair()
    end = End(ours, waits=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end.run)
        for number in range(1000, 5000):
            end.channel.send(Note(str(number) * 250))
        with trio.fail_after(30):
            await end.channel.closed.wait()
    theirs.close()
