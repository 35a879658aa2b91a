"""A consumer whose server does not confirm, or does not answer: nothing is delivered twice that was recorded."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from consume_site import envelope
from stream_messages import stream_message

from triosmtp.delivery import Delivery, DeliveryError
from triosmtp.errors import Reject
from triosmtp.jetstream.consumer_source import TakenMessage
from triosmtp.jetstream.message_codec import encode_message
from triosmtp.jetstream.nats_thread import NATSUnavailableError
from triosmtp.jetstream.stream_consumer import ConsumerSettings, StreamConsumer
from triosmtp.message import Message

SETTINGS = ConsumerSettings(
    failure_subject="mail.failed",
    retry_delays=(1.0, 5.0),
    message_expiration=3600.0,
    report_strangers=True,
    hostname="c1.example.org",
    concurrency=10,
)


class Source:
    """A source in this thread; ``confirms`` is whether the server confirms what is settled."""

    def __init__(self) -> None:
        self.address = SimpleNamespace(bucket="MAIL", deadline=1.0)
        self.thread = SimpleNamespace(call=self._call, notify=lambda function: function())
        self.consumer = "triosmtp"
        self.confirms = True
        self.broken = ""
        self.results: dict[str, Any] = {}
        self.settled: list[bytes] = []
        self.published: list[str] = []
        self.free = 0

    async def _call(self, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        return await function(*args)

    async def read_results(self, _name: str) -> dict[str, Any]:
        return dict(self.results)

    async def write_results(self, _name: str, results: dict[str, Any]) -> None:
        if self.broken == "write":
            raise NATSUnavailableError("no leader")
        self.results = dict(results)

    async def delete_results(self, _name: str) -> None:
        self.results = {}

    async def settle(self, _taken: TakenMessage, word: bytes) -> bool:
        self.settled.append(word)
        return self.confirms

    async def publish(self, subject: str, *_args: Any, **_options: Any) -> None:
        if self.broken == "publish":
            raise NATSUnavailableError("no leader")
        self.published.append(subject)

    def release(self, _taken: TakenMessage) -> None:
        self.free += 1


class Target(Delivery):
    """A target with an answer for each recipient; without one it has the message."""

    def __init__(self) -> None:
        self.answers: dict[str, Exception] = {}
        self.received: list[str] = []

    async def deliver(self, message: Message) -> None:
        recipient = message.envelope.recipients[0].address.local_part
        if recipient in self.answers:
            raise self.answers[recipient]
        self.received.append(recipient)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def target() -> Target:
    return Target()


async def handle(source: Source, target: Target, *names: str, attempt: int = 1) -> None:
    message = stream_message(1, envelope=envelope(*names), received=datetime.now(UTC))
    taken = TakenMessage("mail.in.mx1-0a-1", encode_message(message, "mx1", b"Subject: x\r\n\r\n"), "reply", attempt)
    before = source.free
    await StreamConsumer(SETTINGS, source, target, None).handle(taken)  # type: ignore[arg-type]
    assert source.free == before + 1


@pytest.mark.parametrize("names", [("joe",), ("joe", "ann")])
async def test_an_acknowledgement_that_is_not_confirmed_leaves_the_results(
    source: Source, target: Target, names: tuple[str, ...]
) -> None:
    source.confirms = False
    await handle(source, target, *names)
    source.confirms = True
    await handle(source, target, *names, attempt=2)
    assert target.received == list(names)
    assert source.settled == [b"+ACK", b"+ACK"]
    assert source.results == {}


async def test_a_failure_that_cannot_be_published_delivers_nothing_twice(source: Source, target: Target) -> None:
    target.answers["ann"] = Reject(550, "5.1.1", "no such user")
    source.broken = "publish"
    await handle(source, target, "joe", "ann")
    assert source.settled == []
    source.broken = ""
    await handle(source, target, "joe", "ann", attempt=2)
    assert target.received == ["joe"]
    assert (source.published, source.settled) == (["mail.failed.mx1-0a-1"], [b"+TERM"])


async def test_delays_follow_the_list(source: Source, target: Target) -> None:
    target.answers["joe"] = DeliveryError("busy")
    for attempt in (1, 2, 3):
        await handle(source, target, "joe", attempt=attempt)
    assert source.settled == [b'-NAK {"delay": %d}' % (seconds * 10**9) for seconds in (1, 5, 5)]


async def test_a_result_that_cannot_be_written_stops_before_the_next_recipient(source: Source, target: Target) -> None:
    source.broken = "write"
    await handle(source, target, "joe", "ann")
    assert (target.received, source.settled) == (["joe"], [])


async def test_a_fault_of_a_delivery_is_temporary(
    source: Source, target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    target.answers["joe"] = RuntimeError("bug")
    await handle(source, target, "joe", "ann")
    assert target.received == ["ann"]
    assert source.settled[0].startswith(b"-NAK")
    assert "RuntimeError: bug" in caplog.text


async def test_results_outlive_the_number_of_attempts(
    source: Source, target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    """The durable consumer was made again, so the attempts are counted from 1."""
    source.results = {"0": [250, "2.0.0", "ok"]}
    await handle(source, target, "joe", "ann")
    assert target.received == ["ann"]
    assert "attempt 1, no result is recorded of 'ann@example.com'" in caplog.text


async def test_a_retry_with_all_results_is_no_possible_double(
    source: Source, target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    target.answers["joe"] = DeliveryError("busy")
    await handle(source, target, "joe", "ann")
    await handle(source, target, "joe", "ann", attempt=2)
    assert "no result is recorded" not in caplog.text
