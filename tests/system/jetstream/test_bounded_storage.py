"""After many messages nothing is left of them in the stream, in the bucket of results or in that of objects."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio
from consume_site import consuming_here, envelope, make_site, publish, wait_empty
from fortress import JUDGE
from nats_servers import JetStream, NATSProcess, run_nats
from stream_messages import stream_message

from triosmtp.delivery import DeliveryError
from triosmtp.errors import Reject
from triosmtp.message import Message
from triosmtp.testing import Controller

MESSAGES = 5_000 if JUDGE else 36
STREAMS = ("MAIL", "KV_MAIL-results", "OBJ_MAIL")
EMPTY = {"messages": 0, "bytes": 0, "num_subjects": 0}


@pytest.fixture(scope="module")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NATSProcess]:
    with run_nats(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def jetstream(nats_server: NATSProcess) -> JetStream:
    jetstream = JetStream(nats_server)
    make_site(jetstream)
    return jetstream


class Target:
    """A mail server that defers each recipient ``slow`` once, and refuses each ``full``."""

    def __init__(self) -> None:
        self.deferred: set[str] = set()
        self.accepted = 0

    async def __call__(self, message: Message) -> None:
        recipient = message.envelope.recipients[0].address.local_part
        if recipient.startswith("slow") and recipient not in self.deferred:
            self.deferred.add(recipient)
            raise DeliveryError("busy")
        if recipient.startswith("full"):
            raise Reject(552, "5.2.2", "mailbox full")
        self.accepted += 1


@pytest.fixture
def target() -> Target:
    return Target()


@pytest.fixture
def address(target: Target) -> Iterator[str]:
    with Controller(deliver=target) as controller:
        yield f"smtp://127.0.0.1:{controller.port}"


def message(number: int) -> Message:
    """Return a message to three recipients; of six, one is an object, and another one fails for one of them."""
    names = [f"joe{number}", f"slow{number}", f"full{number}" if number % 6 == 1 else f"ann{number}"]
    body = b"x" * (1_100_000 if number % 6 == 0 else 2_000)
    return stream_message(number, body, envelope=envelope(*names), received=datetime.now(UTC))


def state(jetstream: JetStream, stream: str) -> dict[str, Any]:
    found: dict[str, Any] = jetstream.ask(f"STREAM.INFO.{stream}")["state"]
    return {each: found.get(each, 0) for each in EMPTY}


async def test_nothing_is_left_of_messages_that_are_settled(
    tmp_path: Path, nats_server: NATSProcess, jetstream: JetStream, target: Target, address: str
) -> None:
    for first in (0, MESSAGES // 2):
        await publish(nats_server, *(message(number) for number in range(first, first + MESSAGES // 2)))
        async with consuming_here(tmp_path, nats_server, address):
            await trio.to_thread.run_sync(wait_empty, jetstream)
        assert {each: state(jetstream, each) for each in STREAMS} == dict.fromkeys(STREAMS, EMPTY)
    failed = len(range(1, MESSAGES, 6))
    assert (target.accepted, len(target.deferred)) == (3 * MESSAGES - failed, MESSAGES)
    assert state(jetstream, "FAILED")["messages"] == failed
