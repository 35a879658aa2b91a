"""A consumer whose server does not confirm, or does not answer: nothing is delivered twice that was recorded."""

import json
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY

import pytest
from consume_site import envelope
from stream_messages import stream_message

from triosmtp.delivery import Delivery, DeliveryError
from triosmtp.errors import Reject
from triosmtp.jetstream import stream_consumer
from triosmtp.jetstream.consumer_source import TakenMessage
from triosmtp.jetstream.message_codec import StreamMessage, decode_message, encode_message
from triosmtp.jetstream.nats_thread import NATSUnavailableError
from triosmtp.jetstream.stream_consumer import ConsumerSettings, StreamConsumer
from triosmtp.jetstream.stream_publisher import PublishError
from triosmtp.jetstream.stream_query import StreamFacts
from triosmtp.message import Envelope, Message, Recipient
from triosmtp.smtp import Address

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
        self.facts: StreamFacts | None = None
        self.results: dict[str, Any] = {}
        self.settled: list[bytes] = []
        self.published: list[str] = []
        self.payloads: list[tuple[int, dict[str, str]]] = []
        self.largest = 1 << 30
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

    async def publish(self, subject: str, payload: bytes, *_args: Any, headers: dict[str, str]) -> None:
        if self.broken == "publish":
            raise NATSUnavailableError("no leader")
        if len(payload) > self.largest:
            raise PublishError("message size exceeds maximum allowed", too_large=True)
        self.published.append(subject)
        self.payloads.append((len(payload), headers))

    def release(self, _taken: TakenMessage) -> None:
        self.free += 1


class Target(Delivery):
    """A target with an answer for each recipient; without one it has the message."""

    def __init__(self) -> None:
        self.answers: dict[str, Exception] = {}
        self.received: list[str] = []
        self.parameters: list[dict[str, str | None]] = []
        self.has: frozenset[str] = frozenset()

    @property
    def honours(self) -> frozenset[str]:  # type: ignore[override]  # as that of a next hop
        return self.has

    @property
    def may_honour(self) -> frozenset[str]:
        return frozenset({"DSN", "MT-PRIORITY", "REQUIRETLS"})

    async def deliver(self, message: Message) -> None:
        recipient = message.envelope.recipients[0].address.local_part
        self.parameters.append({**message.envelope.parameters, **message.envelope.recipients[0].parameters})
        if recipient in self.answers:
            raise self.answers[recipient]
        self.received.append(recipient)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def target() -> Target:
    return Target()


async def handle(
    source: Source,
    target: Target,
    *names: str,
    attempt: int = 1,
    sequence: int = 7,
    received: datetime | None = None,
    stored: datetime | None = None,
    payload: bytes | None = None,
    reports: Delivery | None = None,
) -> None:
    message = stream_message(1, envelope=envelope(*names), received=received or datetime.now(UTC))
    octets = encode_message(message, "mx1", b"Subject: x\r\n\r\n") if payload is None else payload
    taken = TakenMessage("mail.in.mx1-0a-1", octets, "reply", attempt, sequence, stored)
    before = source.free
    await StreamConsumer(SETTINGS, source, target, reports).handle(taken)  # type: ignore[arg-type]
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


async def test_results_of_another_message_with_the_same_name_do_not_count(source: Source, target: Target) -> None:
    target.answers["joe"] = DeliveryError("busy")
    await handle(source, target, "joe", "ann", sequence=7)
    assert source.results["1"][0] == 250
    await handle(source, target, "joe", "ann", sequence=8)
    await handle(source, target, "joe", "ann", sequence=8, attempt=2)
    assert target.received == ["ann", "ann"]


@pytest.mark.parametrize("year", [2, 9999])
async def test_a_date_in_the_future_or_long_ago_ends_at_the_expiration(
    source: Source, target: Target, year: int
) -> None:
    """A message that is deferred expires at the latest Message_Expiration seconds after the stream has stored it."""
    target.answers["joe"] = DeliveryError("busy")
    now = datetime.now(UTC)
    received = datetime(year, 1, 2, tzinfo=UTC)
    await handle(source, target, "joe", received=received, stored=now - timedelta(seconds=3500))
    assert (source.settled[0] == b"+TERM") is (year == 2)
    await handle(source, target, "joe", received=received, stored=now - timedelta(seconds=3700))
    assert source.settled[1] == b"+TERM"


async def test_results_of_many_recipients_fit_into_a_message(source: Source, target: Target) -> None:
    names = [f"u{number}" for number in range(200)]
    target.answers = {name: DeliveryError("\U0001f4a5" * 500) for name in names}
    target.answers["u3"] = Reject(550, "5.111.111", "\U0001f4a5" * 500)
    source.facts = StreamFacts((), 16_384, 16_384)
    await handle(source, target, *names)
    assert len(json.dumps(source.results)) < 16_384 - 512
    assert (len(source.results), source.results["3"][:2]) == (201, [550, "5.111.111"])
    source.facts = StreamFacts((), 4096, 4096)
    await handle(source, target, *names[:90])
    assert len(json.dumps(source.results)) < 4096 - 512


async def test_a_message_that_raises_is_returned_and_fails_when_it_has_expired(
    source: Source, target: Target, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_payload: bytes) -> None:
        raise RuntimeError("a fault of this program")

    monkeypatch.setattr(stream_consumer, "decode_message", broken)
    now = datetime.now(UTC)
    await handle(source, target, "joe", stored=now)
    await handle(source, target, "joe", stored=now, attempt=2)
    assert source.settled == [b'-NAK {"delay": 1000000000}', b'-NAK {"delay": 5000000000}']
    await handle(source, target, "joe", stored=now - timedelta(hours=2), attempt=3)
    assert (source.published, source.settled[2]) == (["mail.failed.mx1-0a-1"], b"+TERM")
    assert "a fault of this program" in caplog.text
    source.broken = "publish"
    await handle(source, target, "joe", stored=now - timedelta(hours=2), attempt=4)
    assert len(source.settled) == 3


async def test_only_what_is_no_mail_is_cut_to_fit_the_failure_subject(source: Source, target: Target) -> None:
    source.facts = StreamFacts((), 10_000, 10_000)
    source.largest = 5000
    await handle(source, target, payload=b"x" * 6000)
    assert source.payloads == [(2048, {"Triosmtp-Failure": ANY, "Triosmtp-Truncated": "6000"})]
    source.largest = 100
    await handle(source, target, payload=b"x" * 6000)
    assert source.payloads[1][0] == 0
    assert source.settled == [b"+TERM", b"+TERM"]
    target.answers["joe"] = Reject(550, "5.1.1", "no such user")
    await handle(source, target, "joe")  # mail stays in the stream until it can be stored
    assert len(source.settled) == 2


async def test_the_sender_gets_one_report_also_if_the_failure_cannot_be_stored(source: Source, target: Target) -> None:
    target.answers["joe"] = Reject(550, "5.1.1", "no such user")
    reports = Target()
    source.broken = "publish"
    for attempt in (1, 2, 3):
        await handle(source, target, "joe", attempt=attempt, reports=reports)
    assert (reports.received, source.settled) == ([], [])
    source.broken, source.confirms = "", False
    for attempt in (4, 5):
        await handle(source, target, "joe", attempt=attempt, reports=reports)
    assert (reports.received, source.results["reported"]) == (["me"], True)
    source.confirms = True
    await handle(source, target, "joe", attempt=6, reports=reports)
    assert (reports.received, source.settled, source.results) == (["me"], [b"+TERM"] * 3, {})


async def test_a_large_message_is_read_in_a_thread(
    source: Source, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def decode(payload: bytes) -> StreamMessage:
        threads.append(threading.get_ident())
        return decode_message(payload)

    monkeypatch.setattr(stream_consumer, "decode_message", decode)
    message = stream_message(1, envelope=envelope("joe"), received=datetime.now(UTC))
    for octets in (b"x", b"x" * 100_000):
        await handle(source, target, payload=encode_message(message, "mx1", octets))
    assert [each == threading.get_ident() for each in threads] == [True, False]
    assert target.received == ["joe", "joe"]


@pytest.mark.parametrize(
    ("has", "dropped"),
    [
        (set(), {"MT-PRIORITY", "ENVID", "NOTIFY", "ORCPT"}),
        ({"MT-PRIORITY"}, {"ENVID", "NOTIFY", "ORCPT"}),
        ({"DSN", "MT-PRIORITY"}, set()),
    ],
)
async def test_parameters_that_the_target_lacks_and_the_message_does_not_need_are_dropped(
    source: Source, target: Target, has: set[str], dropped: set[str]
) -> None:
    """A node offers MT-PRIORITY, and cannot know to which hop the message goes."""
    given = {"MT-PRIORITY": "3", "ENVID": "x", "NOTIFY": "NEVER", "ORCPT": "rfc822;j@example.com", "REQUIRETLS": None}
    sender = {name: given[name] for name in ("MT-PRIORITY", "ENVID", "REQUIRETLS")}
    recipient = Recipient(Address("joe", "example.com"), {name: given[name] for name in ("NOTIFY", "ORCPT")})
    message = stream_message(
        1, envelope=Envelope(Address("me", "example.org"), sender, [recipient]), received=datetime.now(UTC)
    )
    target.has = frozenset(has)
    await handle(source, target, payload=encode_message(message, "mx1", b"x"))
    assert target.parameters == [{name: value for name, value in given.items() if name not in dropped}]
