"""The channel between two processes, and the way of connections, each with both ends in one process."""

import os
import resource
import signal
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from triosmtp import ConfigError
from triosmtp.errors import Problem, Severity
from triosmtp.sockets.listener import Peer
from triosmtp.workers import channel as channel_module
from triosmtp.workers.channel import Channel, ChannelClosedError
from triosmtp.workers.handoff import Handoff, connections_pair, receive_connection, send_connection, skip
from triosmtp.workers.process import Worker
from triosmtp.workers.supervisor import Supervisor


class End:
    """One end, whose handlers note what comes."""

    def __init__(self, sock: socket.socket, *, patient: bool = True) -> None:
        self.posted: list[Any] = []
        self.channel = Channel(
            sock,
            posts={"note": self.posted.append, "fail": self._fail},
            calls={"double": self._double, "refuse": self._refuse, "never": trio.sleep_forever},
            patient=patient,
        )

    def _fail(self) -> None:
        raise RuntimeError("a post that fails")

    async def _double(self, value: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return value * 2

    async def _refuse(self, error: Exception) -> None:
        raise error


@asynccontextmanager
async def ends(**options: Any) -> AsyncIterator[tuple[End, End]]:
    ours, theirs = socket.socketpair()
    one, other = End(ours, **options), End(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.channel.run)
        nursery.start_soon(other.channel.run)
        yield one, other
        nursery.cancel_scope.cancel()


async def test_posts_keep_their_order_and_calls_are_answered() -> None:
    async with ends() as (one, other):
        for number in range(5000):
            one.channel.post("note", number)
        one.channel.post("note", b"x" * 3_000_000)  # more than any buffer of the kernel's
        one.channel.post("fail")
        assert await one.channel.call("double", "ab") == "abab"
        assert other.posted[:5000] == list(range(5000))
        assert len(other.posted[5000]) == 3_000_000
        answers: list[int] = []

        async def ask(channel: Channel, number: int) -> None:
            answers.append(await channel.call("double", number))

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
            await one.channel.call("refuse", ConfigError([problem]))
        assert caught.value.problems == (problem,)
        with pytest.raises(ValueError, match="a key"):
            await one.channel.call("refuse", ValueError("a key"))
        with pytest.raises(KeyError):
            await one.channel.call("no such call")


async def test_the_end_of_one_end_is_told() -> None:
    async with ends() as (one, other):
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(ChannelClosedError):
                    await one.channel.call("never")

            nursery.start_soon(ask)
            other.channel.post("note", "last words")
            await trio.testing.wait_all_tasks_blocked(0.05)
            other.channel.close()
        await one.channel.closed.wait()
        assert one.posted == ["last words"]
        with pytest.raises(ChannelClosedError):
            await one.channel.call("double", 1)
        one.channel.post("note", "to nobody")


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
        end.channel.post("note", str(number) * 250)
    waiting = len(end.channel._said)
    assert waiting <= 2001
    end.channel.close()
    thread.join(30)
    theirs.close()
    assert sum(read) > 1_000_000


async def test_who_does_not_listen_is_given_up_by_one_who_may_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "_UNREAD", 1_000_000)
    ours, theirs = socket.socketpair()
    end = End(ours, patient=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end.channel.run)
        for number in range(1000, 5000):
            end.channel.post("note", str(number) * 250)
        with trio.fail_after(30):
            await end.channel.closed.wait()
    theirs.close()


def test_a_connection_is_handed_over_whole_or_not_at_all() -> None:
    ours, theirs = connections_pair()
    pairs = []
    while True:
        pair = socket.socketpair()
        pairs.append(pair)
        if not send_connection(ours, Handoff(len(pairs), 1, ("127.0.0.1", 25), Peer("p", None)), pair[0]):
            break
    assert len(pairs) > 20
    taken = 0
    while (received := receive_connection(theirs)) is not None:
        handed, sock = received
        assert sock is not None
        taken += 1
        assert handed.number == taken
        sock.send(b"%d" % handed.number)
        assert pairs[taken - 1][1].recv(10) == b"%d" % taken
        sock.close()
    assert taken == len(pairs) - 1
    theirs.close()
    with pytest.raises(OSError, match="Broken pipe"):
        send_connection(ours, Handoff(0, 1, None, Peer("p", None)), pairs[0][0])
    ours.close()
    for one, other in pairs:
        one.close()
        other.close()


def test_a_connection_without_a_descriptor_for_it_waits() -> None:
    ours, theirs = connections_pair()
    accepted, peer = socket.socketpair()
    for number in (1, 2):
        assert send_connection(ours, Handoff(number, 1, None, Peer("p", None)), accepted)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(ours.fileno())
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        for _ in range(2):
            received = receive_connection(theirs)
            assert received is not None
            assert (received[0].number, received[1]) == (1, None)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    received = receive_connection(theirs)
    assert received is not None
    assert received[0].number == 1
    assert received[1] is not None
    received[1].send(b"x")
    assert peer.recv(10) == b"x"
    received[1].close()
    skip(theirs)
    assert receive_connection(theirs) is None
    accepted.close()
    assert peer.recv(10) == b"", "nothing refers to it any more"
    for sock in (ours, theirs, peer):
        sock.close()


async def test_a_stuck_worker_is_killed() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(ours, posts={}, calls={}, patient=False)
    process = await trio.lowlevel.open_process(["sleep", "100"], stdin=None)
    connections = connections_pair()
    worker = Worker(1, process, channel, *connections, 1)
    supervisor = Supervisor(1, hung=0.2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.run)
        with trio.fail_after(30):
            await supervisor._look_after(worker)
            assert await process.wait() == -signal.SIGKILL
        nursery.cancel_scope.cancel()
    for sock in (theirs, *connections):
        sock.close()
