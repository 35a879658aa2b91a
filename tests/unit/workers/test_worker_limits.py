"""The limits in a worker: what it admits itself, and what it asks the supervisor for."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address

import trio
import trio.testing
from attrs import frozen

from triosmtp import parse_config
from triosmtp.config import Settings
from triosmtp.limits.limit_reached import LimitReached
from triosmtp.policy import Session
from triosmtp.variables import Variables
from triosmtp.workers.channel import Channel
from triosmtp.workers.worker_limits import WorkerLimits
from triosmtp.workers.worker_messages import AdmitHandshake, HandshakeEnded, HandshakeStarted

MAX = LimitReached.TLS_HANDSHAKES_MAX


def settings(options: str = "") -> Settings:
    config = parse_config(f'Deliver_To = "discard:" ESMTP_Listener {{ Listen "127.0.0.1:0" {{ {options} }} }}')
    return config.resolve(config.listens[0], None)


def session(number: int, address: str = "192.0.2.1") -> Session:
    peer = ip_address(address)
    return Session(id=str(number), listener="", peer=address, peer_address=peer, local="", variables=Variables({}))


@frozen
class Stage:
    limits: WorkerLimits
    received: list[object]
    """The messages that the supervisor received."""


@asynccontextmanager
async def stage(max_handshakes: int, answer: LimitReached | None = None, workers: int = 2) -> AsyncIterator[Stage]:
    ours, theirs = socket.socketpair()
    worker, supervisor = Channel(ours, waits=True), Channel(theirs, waits=False)
    received: list[object] = []

    async def admit(message: AdmitHandshake) -> LimitReached | None:
        received.append(message)
        return answer

    requests: dict[type, Callable[..., Awaitable[object]]] = {AdmitHandshake: admit}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run, {}, {})
        nursery.start_soon(
            supervisor.run, {HandshakeStarted: received.append, HandshakeEnded: received.append}, requests
        )
        yield Stage(WorkerLimits(worker, max_handshakes, workers), received)
        nursery.cancel_scope.cancel()


async def test_a_part_of_the_handshakes_begins_without_a_question() -> None:
    async with stage(80, MAX) as here:
        for number in range(10):  # 80, for two workers, of which a quarter is not asked for
            assert await here.limits.admit_handshake(session(number, f"192.0.2.{number}"), settings()) is None
        assert not any(isinstance(each, AdmitHandshake) for each in here.received)
        assert await here.limits.admit_handshake(session(10, "192.0.2.10"), settings()) is MAX
        started = [each for each in here.received if isinstance(each, HandshakeStarted)]
        assert len(started) == 10, "a question is sent behind everything that waits"
        here.limits.release_handshake("3")
        assert await here.limits.admit_handshake(session(11, "192.0.2.11"), settings()) is None


async def test_one_peer_has_a_part_of_its_share_without_a_question() -> None:
    async with stage(800) as here:
        for number in range(11):
            assert await here.limits.admit_handshake(session(number), settings()) is None
        asked = [each.session for each in here.received if isinstance(each, AdmitHandshake)]
        assert asked == ["10"]


async def test_a_small_limit_and_a_rate_are_always_asked_for() -> None:
    for limit, options in ((7, ""), (800, 'TLS_Handshakes_Per_Peer = "20/60"')):
        async with stage(limit, MAX) as here:
            assert await here.limits.admit_handshake(session(1), settings(options)) is MAX
            here.limits.release_handshake("1")


async def test_without_a_limit_nothing_is_asked_for() -> None:
    async with stage(0, MAX) as here:
        for number in range(100):
            assert await here.limits.admit_handshake(session(number), settings()) is None
        assert not any(isinstance(each, AdmitHandshake) for each in here.received)


async def test_a_short_handshake_costs_no_message() -> None:
    async with stage(800) as here:
        for number in range(3):
            assert await here.limits.admit_handshake(session(number), settings()) is None
        here.limits.release_handshake("0")
        here.limits.release_handshake("2")
        here.limits.release_handshake("never admitted")
        with trio.fail_after(30):
            while not here.received:
                await trio.testing.wait_all_tasks_blocked(0.02)
        here.limits.release_handshake("1")
        with trio.fail_after(30):
            while len(here.received) < 2:
                await trio.testing.wait_all_tasks_blocked(0.02)
        address = ip_address("192.0.2.1")
        assert here.received == [HandshakeStarted("1", address), HandshakeEnded("1")]
