"""What a consumer has in hand: how much, for how long, and by whom it is handled."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from consume_site import CONSUMER, make_site
from nats_servers import JetStream, NATSProcess
from stream_messages import stream_message
from stream_site import open_delivery, stream_address

from triosmtp.jetstream import consumer_source
from triosmtp.jetstream.consumer_source import ConsumerSource, TakenMessage
from triosmtp.jetstream.nats_client import NATSLogin


@pytest.fixture
def site(nats_server: NATSProcess) -> JetStream:
    jetstream = JetStream(nats_server)
    make_site(jetstream)
    return jetstream


@asynccontextmanager
async def taking(
    server: NATSProcess, max_messages: int = 10
) -> AsyncIterator[tuple[ConsumerSource, trio.MemoryReceiveChannel[TakenMessage]]]:
    """Yield a source that takes, and what it takes."""
    token = trio.lowlevel.current_trio_token()
    send, receive = trio.open_memory_channel[TakenMessage](math.inf)
    source = ConsumerSource(
        stream_address(server), NATSLogin(), consumer="triosmtp", bucket="MAIL-results", max_messages=max_messages,
        on_message=lambda taken: token.run_sync_soon(send.send_nowait, taken),
    )  # fmt: skip
    source.thread.start()
    try:
        yield source, receive
    finally:
        await source.thread.aclose()


async def publish(server: NATSProcess, *numbers: int) -> None:
    async with open_delivery(server) as delivery:
        for number in numbers:
            await delivery.deliver(stream_message(number))


def pending(site: JetStream) -> int:
    found: int = site.ask("CONSUMER.INFO.MAIL.triosmtp")["num_ack_pending"]
    return found


def give_up(site: JetStream, sequence: int) -> None:
    """Let the server take the first delivery of a message for lost, as if ``ack_wait`` were over."""

    async def nak(client: Any) -> None:
        await client.publish(f"$JS.ACK.MAIL.triosmtp.1.{sequence}.{sequence}.0.0", b"-NAK")

    site.run(nak)


async def test_no_more_is_taken_than_there_are_places(nats_server: NATSProcess, site: JetStream) -> None:
    await publish(nats_server, *range(5))
    async with taking(nats_server, 2) as (source, received):
        first, second = await received.receive(), await received.receive()
        assert pending(site) == 2
        assert await source.thread.call(source.settle, first, b"+ACK")
        source.thread.notify(lambda: source.release(first))
        third = await received.receive()
        assert [each.name for each in (first, second, third)] == ["mx1-0a-0", "mx1-0a-1", "mx1-0a-2"]
        assert pending(site) == 2


async def test_what_comes_without_a_place_is_returned(nats_server: NATSProcess, site: JetStream) -> None:
    """It answers a request that counted as lost, and another consumer has it at once."""
    await publish(nats_server, 1, 2)
    async with taking(nats_server, 1) as (source, received):
        await received.receive()

        async def pull() -> None:
            assert source._puller is not None
            await source._puller.pull(1)

        await source.thread.call(pull)
        with trio.fail_after(10):
            async with taking(nats_server) as (_, other):
                assert (await other.receive()).name == "mx1-0a-2"
        with pytest.raises(trio.WouldBlock):
            received.receive_nowait()


async def test_a_message_in_hand_is_not_handled_twice(nats_server: NATSProcess, site: JetStream) -> None:
    """The server delivers it again, and the answer to the first delivery settles it."""
    await publish(nats_server, 1)
    async with taking(nats_server) as (source, received):
        taken = await received.receive()
        await trio.to_thread.run_sync(give_up, site, 1)
        await publish(nats_server, 2)
        assert (await received.receive()).name == "mx1-0a-2"  # which came behind the first one's second delivery
        assert site.ask("CONSUMER.INFO.MAIL.triosmtp")["num_redelivered"] == 1
        assert await source.thread.call(source.settle, taken, b"+ACK")
    assert site.messages().keys() == {"mail.in.mx1-0a-2"}


async def test_progress_is_signalled_for_all_that_is_in_hand(
    nats_server: NATSProcess, site: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_source, "ACK_WAIT", 0.1)
    await publish(nats_server, 1, 2)
    async with taking(nats_server) as (_, received):
        await received.receive()
        await received.receive()

        async def listen(client: Any) -> set[tuple[str, bytes]]:
            subscription = await client.subscribe("$JS.ACK.>")
            found = [await subscription.next_msg(timeout=10) for _ in range(6)]
            return {(each.subject.split(".")[5], each.data) for each in found}

        assert await trio.to_thread.run_sync(site.run, listen) == {("1", b"+WPI"), ("2", b"+WPI")}


async def test_what_is_in_hand_at_the_end_is_returned(nats_server: NATSProcess, site: JetStream) -> None:
    await publish(nats_server, 1, 2)
    async with taking(nats_server) as (source, received):
        await received.receive()
        await received.receive()
        await source.thread.call(source.stop_taking)
        await publish(nats_server, 3)
        await source.thread.call(source.return_all)
        with pytest.raises(trio.WouldBlock):
            received.receive_nowait()
    async with taking(nats_server) as (_, received):
        assert {(await received.receive()).name for _ in range(3)} == {"mx1-0a-1", "mx1-0a-2", "mx1-0a-3"}


async def test_a_consumer_that_may_have_no_more_messages_is_logged(
    nats_server: NATSProcess, site: JetStream, caplog: pytest.LogCaptureFixture
) -> None:
    site.ask("CONSUMER.DELETE.MAIL.triosmtp")
    config = {"stream_name": "MAIL", "config": {**CONSUMER, "max_ack_pending": 1}}
    site.ask("CONSUMER.DURABLE.CREATE.MAIL.triosmtp", config)
    await publish(nats_server, 1, 2)
    async with taking(nats_server) as (source, received):
        taken = await received.receive()
        await source.thread.call(source.settle, taken, b'-NAK {"delay": 3600000000000}')
    async with taking(nats_server) as (source, _):
        while source.problems is None:
            await source.thread.call(source.ask, "STREAM.INFO.MAIL")
    assert "1 messages wait for their next attempt or are being delivered, and max_ack_pending" in caplog.text


async def test_an_object_stays_if_another_consumer_of_the_stream_may_need_it(
    nats_server: NATSProcess, site: JetStream
) -> None:
    config = site.ask("STREAM.INFO.MAIL")["config"]
    site.make({**config, "retention": "limits"})
    site.ask("CONSUMER.DURABLE.CREATE.MAIL.triosmtp", {"stream_name": "MAIL", "config": CONSUMER})
    async with open_delivery(nats_server) as delivery:
        await delivery.deliver(stream_message(1, b"x" * 1_500_000))
    async with taking(nats_server) as (source, received):
        taken = await received.receive()
        await source.thread.call(source.settle, taken, b"+ACK")
        await source.thread.call(source.delete_object_of, taken, taken.name)
        assert site.messages("OBJ_MAIL")
        site.ask("STREAM.PURGE.MAIL")
        await source.thread.call(source.delete_object_of, taken, taken.name)
        assert site.messages("OBJ_MAIL") == {}


async def test_the_results_of_each_consumer_are_its_own(nats_server: NATSProcess, site: JetStream) -> None:
    async with taking(nats_server) as (source, _):
        await source.thread.call(source.write_results, "x", {"0": [250, "2.0.0", "ok"]})
        source.consumer = "archive"
        assert await source.thread.call(source.read_results, "x") == {}
        source.consumer = "triosmtp"
        assert await source.thread.call(source.read_results, "x") == {"0": [250, "2.0.0", "ok"]}
