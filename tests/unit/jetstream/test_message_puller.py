"""Requests for messages: one at a time, in batches, and each of them ends."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from consume_site import make_site
from nats.aio.msg import Msg
from nats_servers import JetStream, NATSProcess
from stream_site import stream_address

from triosmtp.jetstream import message_puller
from triosmtp.jetstream.message_puller import MessagePuller
from triosmtp.jetstream.nats_client import ConnectionLostError, NATSConnection, NATSLogin, open_connection


class Site:
    """A connection, and the messages that came."""

    def __init__(self, server: NATSProcess, connection: NATSConnection) -> None:
        self.connection = connection
        self.messages: asyncio.Queue[Msg] = asyncio.Queue()
        self.puller = MessagePuller(connection, stream_address(server), "triosmtp", self.messages.put)

    async def publish(self, *names: str) -> None:
        for name in names:
            await self.connection.client.jetstream().publish(f"mail.in.{name}", name.encode())

    @property
    def found(self) -> list[str]:
        return [self.messages.get_nowait().data.decode() for _ in range(self.messages.qsize())]


@asynccontextmanager
async def open_site(server: NATSProcess) -> AsyncIterator[Site]:
    connection = await open_connection(("127.0.0.1", server.port), NATSLogin())
    try:
        site = Site(server, connection)
        await site.puller.open()
        yield site
    finally:
        await connection.close()


def run(server: NATSProcess, test: Callable[[Site], Awaitable[None]]) -> None:
    async def main() -> None:
        async with open_site(server) as site:
            await test(site)

    make_site(JetStream(server))
    asyncio.run(main())


def test_one_request_brings_many_messages_and_later_ones(nats_server: NATSProcess) -> None:
    async def test(site: Site) -> None:
        await site.publish("a", "b")
        pulling = asyncio.ensure_future(site.puller.pull(3))
        assert [(await site.messages.get()).data for _ in "ab"] == [b"a", b"b"]
        assert not pulling.done()
        await site.publish("c", "d")
        assert await pulling == ""
        assert (site.found, site.puller._requests) == (["c"], 1)

    run(nats_server, test)


def test_a_request_whose_time_is_over_is_no_fault(nats_server: NATSProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_puller, "_EXPIRES", 0.2)
    monkeypatch.setattr(message_puller, "_HEARTBEAT", 0.05)

    async def test(site: Site) -> None:
        statuses: list[str] = []
        note = site.puller._note_status

        def spy(status: str, description: str) -> None:
            statuses.append(status)
            note(status, description)

        monkeypatch.setattr(site.puller, "_note_status", spy)
        assert await site.puller.pull(1) == ""
        assert set(statuses) == {"100", "408"}

    run(nats_server, test)


def test_a_consumer_that_is_deleted_is_named(nats_server: NATSProcess) -> None:
    async def test(site: Site) -> None:
        pulling = asyncio.ensure_future(site.puller.pull(1))
        await site.publish("a")
        await site.messages.get()
        await pulling
        pulling = asyncio.ensure_future(site.puller.pull(1))
        while not await waiting(site):
            pass
        await site.connection.client.request("$JS.API.CONSUMER.DELETE.MAIL.triosmtp")
        assert await pulling == "Consumer Deleted"
        assert await site.puller.pull(1) != ""  # and a request that nobody answers ends at once

    run(nats_server, test)


def test_a_request_without_a_sign_of_life_is_lost(nats_server: NATSProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its messages still count, and its status does not end the next one."""
    monkeypatch.setattr(message_puller, "_SILENCE", 0.05)

    async def test(site: Site) -> None:
        assert await asyncio.wait_for(site.puller.pull(2), 4) == ""
        site.puller._requests += 1
        site.puller._awaited = 5
        old = {"Status": "409", "Description": "Leadership Change"}
        await site.connection.client.publish(f"{site.puller._inbox}.1", b"", headers=old)
        await site.publish("a")
        assert (await site.messages.get()).data == b"a"
        assert (site.puller._awaited, site.puller._status) == (4, "")

    run(nats_server, test)


def test_what_is_under_way_comes_before_the_stop_and_nothing_after_it(nats_server: NATSProcess) -> None:
    async def test(site: Site) -> None:
        go_on = asyncio.Event()

        async def slow(message: Msg) -> None:
            await go_on.wait()
            await site.messages.put(message)

        site.puller._on_message = slow
        pulling = asyncio.ensure_future(site.puller.pull(10))
        await site.publish("a", "b")
        while await pending(site) < 2:
            pass
        stopping = asyncio.ensure_future(site.puller.stop())
        go_on.set()
        await stopping
        assert site.found == ["a", "b"]
        await site.publish("c")
        await site.puller.stop()  # without an effect
        assert await pending(site) == 2  # c was not even sent
        pulling.cancel()

    run(nats_server, test)


async def pending(site: Site) -> int:
    """Return how many messages are delivered and not settled."""
    return await count(site, "num_ack_pending")


async def waiting(site: Site) -> int:
    """Return how many requests the server has."""
    return await count(site, "num_waiting")


async def count(site: Site, field: str) -> int:
    answer = await site.connection.client.request("$JS.API.CONSUMER.INFO.MAIL.triosmtp")
    found: int = json.loads(answer.data)[field]
    return found


def test_a_lost_connection_is_an_error(nats_server: NATSProcess) -> None:
    async def test(site: Site) -> None:
        await site.connection.close()
        with pytest.raises(ConnectionLostError):
            await site.puller.pull(1)
        await site.puller.stop()

    run(nats_server, test)
