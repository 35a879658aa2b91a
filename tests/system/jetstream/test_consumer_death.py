"""A consumer that is killed: at the far end only that is doubled whose answer it had and could not record.

The far end is the lmtpd of Dovecot, which doubles what it receives twice.  Proxies show how far the consumer is.
"""

import logging
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio
from consume_site import Consuming, consuming, consuming_here, envelope, make_site, publish, wait_empty
from nats_servers import JetStream, NATSProcess, run_nats
from private_dovecot import Dovecot, running_dovecot
from stream_messages import stream_message
from watching_proxy import watching_proxy

from examples.fleet.audit import Doubles, explain_doubles, read_redeliveries
from triosmtp.message import Message

NAMES = ("a", "b", "c")
ID = re.compile(rb"\bid (mx1-0a-\d+)")


@pytest.fixture(scope="module")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NATSProcess]:
    with run_nats(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(scope="module")
def dovecot_server() -> Iterator[Dovecot]:
    with running_dovecot() as dovecot:
        yield dovecot


@pytest.fixture
def dovecot(dovecot_server: Dovecot) -> Dovecot:
    dovecot_server.clear()
    return dovecot_server


@pytest.fixture
def jetstream(nats_server: NATSProcess) -> JetStream:
    jetstream = JetStream(nats_server)
    make_site(jetstream)
    return jetstream


def answered(name: str) -> Callable[[str, bytes], bool]:
    """Return whether Dovecot has answered that it has the message for ``name``."""
    pattern = re.compile(rb"^250 2\.0\.0 <%s@example\.com> .* Saved" % name.encode(), re.MULTILINE)
    return lambda way, seen: way == "from" and pattern.search(seen) is not None


def asked(name: str) -> Callable[[str, bytes], bool]:
    """Return whether the consumer goes on with ``name``."""
    return lambda way, seen: way == "to" and b"RCPT TO:<%s@" % name.encode() in seen


def settles(way: str, seen: bytes) -> bool:
    """Return whether the consumer settles the message."""
    return way == "to" and b"PUB $JS.ACK.MAIL.triosmtp.1.1." in seen


class Killer:
    """Kills a consumer at a moment; nothing passes from then on."""

    def __init__(self, moment: Callable[[str, bytes], bool]) -> None:
        self._moment = moment
        self.consumer: Consuming | None = None
        self.killed = False

    def look(self, way: str, seen: bytes) -> bool:
        if self.killed or self._moment(way, seen):
            assert self.consumer is not None
            if not self.killed:
                os.kill(self.consumer.process.pid, signal.SIGKILL)
                self.killed = True
            return False
        return True


@asynccontextmanager
async def proxies(folder: Path, killer: Killer, port: int, dovecot: Dovecot) -> AsyncIterator[tuple[int, Path]]:
    """Yield the port and the path at which NATS and Dovecot are seen through the eyes of ``killer``."""
    path = folder / "lmtp"
    with trio.socket.socket(trio.socket.AF_UNIX) as sock:
        await sock.bind(str(path))
        sock.listen(10)
        (nats,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with (
            watching_proxy(trio.SocketListener(sock), dovecot.socket, killer.look),
            watching_proxy(nats, port, killer.look),
        ):
            yield nats.socket.getsockname()[1], path


def message(*names: str) -> Message:
    """Return message 1, with its id in the trace header, as a node writes it."""
    trace = b"Received: from a by b\r\n id mx1-0a-1; Tue, 03 Feb 2026 04:05:06 +0000\r\n"
    return stream_message(1, envelope=envelope(*names), trace=trace, received=datetime.now(UTC))


def count_copies(dovecot: Dovecot) -> dict[tuple[int, str], Counter[str]]:
    """Return the ids of the copies that Dovecot has of message 1, for each recipient."""
    copies: dict[tuple[int, str], Counter[str]] = {}
    for name in NAMES:
        found = [ID.search(each) for each in dovecot.messages(name)]
        copies[1, f"{name}@example.com"] = Counter(each[1].decode() if each else "" for each in found)
    return copies


def redeliveries(records: list[logging.LogRecord]) -> dict[tuple[str, str], int]:
    """Return what the log says, in the form in which `triosmtp consume` writes it."""
    lines = [f"{each.levelname} {each.name}: {each.getMessage()}" for each in records]
    return dict(read_redeliveries(["\n".join(lines)]))


async def redeliver(jetstream: JetStream) -> None:
    """Let the server deliver the message again now, and not when ``ack_wait`` is over."""

    async def nak(client: Any) -> None:
        await client.publish("$JS.ACK.MAIL.triosmtp.1.1.1.0.0", b"-NAK")

    await trio.to_thread.run_sync(jetstream.run, nak)


@pytest.mark.parametrize(
    ("moment", "expected", "without_result"),
    [
        # Between the answer of the target and the record of it: that recipient is doubled, and no other one.
        (answered("a"), [2, 1, 1], "abc"),
        (answered("b"), [1, 2, 1], "bc"),
        # Between the record of one recipient and the next one: nothing is doubled.
        (asked("b"), [1, 1, 1], "bc"),
        # The acknowledgement is the record of the last one.
        (answered("c"), [1, 1, 2], "c"),
        (settles, [1, 1, 2], "c"),
    ],
    ids=["first answered", "second answered", "first recorded", "last answered", "before the acknowledgement"],
)
async def test_only_what_was_answered_and_not_recorded_is_doubled(
    tmp_path: Path,
    nats_server: NATSProcess,
    jetstream: JetStream,
    dovecot: Dovecot,
    caplog: pytest.LogCaptureFixture,
    moment: Callable[[str, bytes], bool],
    expected: list[int],
    without_result: str,
) -> None:
    """The log of the consumer that goes on says which recipients these can be, and nothing else explains them."""
    killer = Killer(moment)
    async with proxies(tmp_path, killer, nats_server.port, dovecot) as (port, path):
        with consuming(tmp_path, port, f"lmtp:{path}") as killer.consumer:
            await publish(nats_server, message(*NAMES))
            await trio.to_thread.run_sync(killer.consumer.process.wait)
    assert killer.killed
    await redeliver(jetstream)
    async with consuming_here(tmp_path, nats_server, f"lmtp:{dovecot.socket}"):
        await trio.to_thread.run_sync(wait_empty, jetstream)
    copies, again = count_copies(dovecot), redeliveries(caplog.records)
    assert [each["mx1-0a-1"] for each in copies.values()] == expected
    assert again == {("mx1-0a-1", f"{name}@example.com"): 1 for name in without_result}
    doubles = sum(expected) - len(NAMES)
    assert explain_doubles(copies, {}, again) == Doubles(0, doubles, 0)
    assert explain_doubles(copies, {1: 9}, {}) == Doubles(0, 0, doubles)
    assert jetstream.messages("KV_MAIL-results") == {}


async def test_nothing_is_doubled_after_all_results_are_written(
    tmp_path: Path,
    nats_server: NATSProcess,
    jetstream: JetStream,
    dovecot: Dovecot,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One recipient is refused for good; the consumer is killed when it settles the message."""
    killer = Killer(settles)
    async with proxies(tmp_path, killer, nats_server.port, dovecot) as (port, path):
        with consuming(tmp_path, port, f"lmtp:{path}") as killer.consumer:
            await publish(nats_server, message("a", "full"))
            await trio.to_thread.run_sync(killer.consumer.process.wait)
    assert killer.killed
    await redeliver(jetstream)
    async with consuming_here(tmp_path, nats_server, f"lmtp:{dovecot.socket}"):
        await trio.to_thread.run_sync(wait_empty, jetstream)
    assert (len(dovecot.messages("a")), len(dovecot.messages("full"))) == (1, 0)
    assert jetstream.messages("FAILED").keys() == {"mail.failed.mx1-0a-1"}
    assert redeliveries(caplog.records) == {}
