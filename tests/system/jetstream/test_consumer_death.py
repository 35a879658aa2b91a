"""A consumer that is killed: at the far end only that is doubled whose answer it had and could not record.

The far end is the lmtpd of Dovecot, which doubles what it receives twice.  Proxies show how far the consumer is.
"""

import os
import re
import signal
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

NAMES = ("a", "b", "c")
NO_RESULT = re.compile(r"mail\.in\.mx1-0a-1: attempt 2, no result is recorded of (.*)")


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


async def redeliver(jetstream: JetStream) -> None:
    """Let the server deliver the message again now, and not when ``ack_wait`` is over."""

    async def nak(client: Any) -> None:
        await client.publish("$JS.ACK.MAIL.triosmtp.1.1.1.0.0", b"-NAK")

    await trio.to_thread.run_sync(jetstream.run, nak)


@pytest.mark.parametrize(
    ("moment", "expected", "without_result"),
    [
        # Between the answer of the target and the record of it: that recipient is doubled, and no other one.
        (answered("a"), [2, 1, 1], "'a@example.com', 'b@example.com', 'c@example.com'"),
        (answered("b"), [1, 2, 1], "'b@example.com', 'c@example.com'"),
        # Between the record of one recipient and the next one: nothing is doubled.
        (asked("b"), [1, 1, 1], "'b@example.com', 'c@example.com'"),
        # The acknowledgement is the record of the last one.
        (answered("c"), [1, 1, 2], "'c@example.com'"),
        (settles, [1, 1, 2], "'c@example.com'"),
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
    """And the log of the consumer that goes on says which recipients these can be."""
    killer = Killer(moment)
    async with proxies(tmp_path, killer, nats_server.port, dovecot) as (port, path):
        with consuming(tmp_path, port, f"lmtp:{path}") as killer.consumer:
            await publish(nats_server, stream_message(1, envelope=envelope(*NAMES), received=datetime.now(UTC)))
            await trio.to_thread.run_sync(killer.consumer.process.wait)
    assert killer.killed
    await redeliver(jetstream)
    async with consuming_here(tmp_path, nats_server, f"lmtp:{dovecot.socket}"):
        await trio.to_thread.run_sync(wait_empty, jetstream)
    assert [len(dovecot.messages(name)) for name in NAMES] == expected
    assert NO_RESULT.findall(caplog.text) == [without_result]
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
            await publish(nats_server, stream_message(1, envelope=envelope("a", "full"), received=datetime.now(UTC)))
            await trio.to_thread.run_sync(killer.consumer.process.wait)
    assert killer.killed
    await redeliver(jetstream)
    async with consuming_here(tmp_path, nats_server, f"lmtp:{dovecot.socket}"):
        await trio.to_thread.run_sync(wait_empty, jetstream)
    assert (len(dovecot.messages("a")), len(dovecot.messages("full"))) == (1, 0)
    assert jetstream.messages("FAILED").keys() == {"mail.failed.mx1-0a-1"}
    assert NO_RESULT.findall(caplog.text) == []
