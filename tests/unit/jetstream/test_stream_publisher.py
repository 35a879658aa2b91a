"""Publications that are not acknowledged at once: they are sent again with the same id, within their time."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import nats
import pytest
from nats.aio.msg import Msg
from nats_servers import NATSProcess
from stream_site import stream_address

from triosmtp.jetstream import stream_publisher
from triosmtp.jetstream.nats_client import NATSLogin
from triosmtp.jetstream.stream_publisher import PublishError, StreamPublisher

STORED = {"stream": "FAKE", "seq": 1}
Answers = list[Any]


@asynccontextmanager
async def fake_stream(server: NATSProcess, answers: Answers) -> AsyncIterator[list[Msg]]:
    """Answer publications to ``fake.*`` in the place of a stream: None is no answer.  Yield what was published."""
    client = await nats.connect(server.url)
    seen: list[Msg] = []

    async def answer(message: Msg) -> None:
        seen.append(message)
        found = answers[min(len(seen), len(answers)) - 1]
        if found is not None:
            await message.respond(found if isinstance(found, bytes) else json.dumps(found).encode())

    await client.subscribe("fake.*", cb=answer)
    await client.flush()
    try:
        yield seen
    finally:
        await client.close()


def publish(server: NATSProcess, answers: Answers, seconds: float = 10.0) -> list[Msg]:
    """Publish one message to a stream with these answers; return what reached it."""

    async def run() -> list[Msg]:
        async with fake_stream(server, answers) as seen:
            await publisher.thread.connection(20)  # which takes a part of the time of a publication
            await publisher.publish("fake.1", b"x", "mx1-1", "FAKE", seconds)
            return seen

    async def in_loop(work: Callable[[], Awaitable[list[Msg]]]) -> list[Msg]:
        serving = asyncio.ensure_future(publisher.thread._loop_forever())
        await asyncio.sleep(0)
        try:
            return await work()
        finally:
            serving.cancel()
            await asyncio.wait((serving,))

    publisher = StreamPublisher(stream_address(server), NATSLogin())
    return asyncio.run(in_loop(run))


def test_a_publication_without_an_answer_is_sent_again_with_its_id(
    nats_server: NATSProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_publisher, "_ATTEMPT", 0.1)
    seen = publish(nats_server, [None, None, STORED])
    assert [(each.headers or {}).get("Nats-Msg-Id") for each in seen] == ["mx1-1"] * 3
    assert {(each.headers or {}).get("Nats-Expected-Stream") for each in seen} == {"FAKE"}


@pytest.mark.parametrize(
    "error",
    [
        {"code": 503, "err_code": 10008, "description": "jetstream system temporarily unavailable"},
        {"code": 409, "err_code": 10158, "description": "duplicate message id is in process"},
        {"code": 500, "err_code": 10000, "description": "x"},
    ],
)
def test_an_error_that_passes_is_tried_again(
    nats_server: NATSProcess, monkeypatch: pytest.MonkeyPatch, error: dict[str, Any]
) -> None:
    monkeypatch.setattr(stream_publisher, "_PAUSE", 0.01)
    assert len(publish(nats_server, [{"error": error}, STORED])) == 2


def test_a_duplicate_is_an_acknowledgement(nats_server: NATSProcess) -> None:
    assert len(publish(nats_server, [{**STORED, "duplicate": True}])) == 1


@pytest.mark.parametrize(
    ("answer", "expected", "full"),
    [
        ({"stream": "OTHER", "seq": 1}, "acknowledged by the stream 'OTHER', not FAKE", False),
        ({}, "acknowledged by the stream None", False),
        (b"+OK", "not JSON", False),
        (b"[]", "not JSON", False),
        ({"error": {"code": 400, "err_code": 10060, "description": "expected stream does not match"}}, "match", False),
        ({"error": {"code": 503, "err_code": 10077, "description": "maximum messages exceeded"}}, "exceeded", True),
        ({"error": {"code": 500, "err_code": 10047, "description": "insufficient storage"}}, "insufficient", True),
    ],
)
def test_an_answer_that_is_no_acknowledgement_is_an_error(
    nats_server: NATSProcess, answer: Any, expected: str, full: bool
) -> None:
    with pytest.raises(PublishError, match=expected) as caught:
        publish(nats_server, [answer])
    assert caught.value.full is full


def test_it_is_given_up_when_its_time_is_over(nats_server: NATSProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_publisher, "_ATTEMPT", 0.05)
    with pytest.raises(PublishError, match="no acknowledgement in time"):
        publish(nats_server, [None], seconds=0.2)
