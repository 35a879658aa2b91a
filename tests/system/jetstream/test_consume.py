"""`triosmtp consume`: mail of a stream reaches its target, is settled only then, and goes on after a death."""

import email
import json
import logging
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from consume_site import CONSUMER, consuming, consuming_here, envelope, mails, make_site, publish, wait_empty
from nats_servers import JetStream, NATSProcess, free_ports, run_nats
from stream_messages import stream_message

from triosmtp.delivery import DeliveryError
from triosmtp.errors import Reject
from triosmtp.jetstream import consumer_runner
from triosmtp.jetstream.message_codec import decode_message
from triosmtp.message import Message
from triosmtp.testing import Controller


@pytest.fixture(scope="module")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NATSProcess]:
    with run_nats(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def jetstream(nats_server: NATSProcess) -> JetStream:
    jetstream = JetStream(nats_server)
    make_site(jetstream)
    return jetstream


def test_mail_reaches_a_maildir_and_leaves_the_stream(
    tmp_path: Path, nats_server: NATSProcess, jetstream: JetStream
) -> None:
    """Also a message that is an object, which is deleted then."""
    two = envelope("joe", "ann")
    large = b"Subject: large\r\n\r\n" + b"x" * 70 * 30_000 + b"\r\n"
    trio.run(publish, nats_server, stream_message(1, envelope=two), stream_message(2, large))
    with consuming(tmp_path, nats_server.port, f"maildir:{tmp_path}/Maildir"):
        wait_empty(jetstream)
    found = mails(tmp_path / "Maildir")
    assert len(found) == 3
    assert sorted(each.split(b"Delivered-To: ")[1].split(b"\n")[0] for each in found) == [
        b"ann@example.com", b"joe@example.com", b"joe@example.com",
    ]  # fmt: skip
    assert any(each.endswith(large[-1000:].replace(b"\r\n", b"\n")) for each in found)
    assert jetstream.messages("OBJ_MAIL") == {}
    assert jetstream.messages("FAILED") == {}
    assert jetstream.messages("KV_MAIL-results") == {}


class Target:
    """A mail server that is the target: ``answers`` are those of the next messages, by recipient; then 250."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Exception]] = {}
        self.received: list[str] = []
        self.before: Callable[[str], None] = lambda _: None

    async def __call__(self, message: Message) -> None:
        recipient = message.envelope.recipients[0].address.local_part
        self.before(recipient)
        if answers := self.answers.get(recipient):
            raise answers.pop(0)
        self.received.append(recipient)


@pytest.fixture
def target() -> Target:
    return Target()


@pytest.fixture
def address(target: Target) -> Iterator[str]:
    """Return the address of the target."""
    with Controller(deliver=target) as controller:
        yield f"smtp://127.0.0.1:{controller.port}"


def failures(jetstream: JetStream) -> list[tuple[str, bytes]]:
    return sorted(jetstream.messages("FAILED").items())


async def test_a_recipient_that_is_deferred_is_tried_again_alone(
    tmp_path: Path, nats_server: NATSProcess, jetstream: JetStream, target: Target, address: str
) -> None:
    target.answers["ann"] = [DeliveryError("busy"), DeliveryError("busy")]
    await publish(nats_server, stream_message(1, envelope=envelope("joe", "ann", "sue"), received=datetime.now(UTC)))
    async with consuming_here(tmp_path, nats_server, address):
        await trio.to_thread.run_sync(wait_empty, jetstream)
    assert target.received == ["joe", "sue", "ann"]
    assert failures(jetstream) == []


async def test_results_are_written_before_the_next_recipient(
    tmp_path: Path, nats_server: NATSProcess, jetstream: JetStream, target: Target, address: str
) -> None:
    seen: dict[str, object] = {}

    def look(recipient: str) -> None:
        values = jetstream.messages("KV_MAIL-results")
        seen[recipient] = json.loads(values.get("$KV.MAIL-results.triosmtp.mx1-0a-1") or b"{}")

    target.before = look
    await publish(nats_server, stream_message(1, envelope=envelope("joe", "ann")))
    async with consuming_here(tmp_path, nats_server, address):
        await trio.to_thread.run_sync(wait_empty, jetstream)
    assert seen["joe"] == {}
    assert list(seen["ann"]) == ["sequence", "0"]  # type: ignore[call-overload]
    assert jetstream.messages("KV_MAIL-results") == {}  # nothing is left of them


async def test_a_consumer_goes_on_at_the_recipient_at_which_another_one_died(
    tmp_path: Path, nats_server: NATSProcess, jetstream: JetStream, target: Target, address: str
) -> None:
    await publish(nats_server, stream_message(1, envelope=envelope("joe", "ann")))

    async def die(client: Any) -> None:
        """Take the message, write what another consumer would have written, and return it."""
        context = client.jetstream()
        subscription = await context.pull_subscribe_bind("triosmtp", "MAIL")
        (message,) = await subscription.fetch(1, timeout=10)
        await context.publish("$KV.MAIL-results.triosmtp.mx1-0a-1", b'{"0":[250,"2.0.0","ok"],"7":"x","y":[1]}')
        await message.nak()
        await client.flush()

    await trio.to_thread.run_sync(jetstream.run, die)
    async with consuming_here(tmp_path, nats_server, address):
        await trio.to_thread.run_sync(wait_empty, jetstream)
    assert target.received == ["ann"]


async def test_a_refused_recipient_goes_to_the_failure_subject(
    tmp_path: Path, nats_server: NATSProcess, jetstream: JetStream, target: Target, address: str
) -> None:
    target.answers["ann"] = [Reject(554, "5.7.1", "not wanted")]
    await publish(nats_server, stream_message(1, envelope=envelope("joe", "ann")))
    options = f'Report_To = "maildir:{tmp_path}/Reports" Report_Strangers = true'
    async with consuming_here(tmp_path, nats_server, address, options):
        await trio.to_thread.run_sync(wait_empty, jetstream)
    assert target.received == ["joe"]
    ((subject, payload),) = failures(jetstream)
    assert subject == "mail.failed.mx1-0a-1"
    document = decode_message(payload).document
    assert (document.id, [str(each) for each in document.envelope.recipients]) == ("mx1-0a-1", ["ann@example.com"])
    (report,) = mails(tmp_path / "Reports")
    parsed = email.message_from_bytes(report)
    assert parsed.get_content_type() == "multipart/report"
    assert parsed["To"] == "<me@example.org>"
    status = parsed.get_payload(1)
    assert b"Final-Recipient: rfc822; ann@example.com" in report
    assert b"joe@example.com" not in report.split(b"text/rfc822-headers")[0]
    assert b"5.7.1" in report
    assert status.get_content_type() == "message/delivery-status"  # type: ignore[union-attr]


async def test_a_message_that_has_expired_is_not_tried_again(
    tmp_path: Path,
    nats_server: NATSProcess,
    jetstream: JetStream,
    target: Target,
    address: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    target.answers["joe"] = [DeliveryError("busy")]
    old = datetime.now(UTC) - timedelta(days=5)
    await publish(nats_server, stream_message(1, envelope=envelope("joe"), received=old))
    async with consuming_here(tmp_path, nats_server, address):
        await trio.to_thread.run_sync(wait_empty, jetstream)
    assert "has expired" in caplog.text
    assert target.received == []
    assert len(failures(jetstream)) == 1


class Told:
    """Notes when a text was logged, in any thread."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._token = trio.lowlevel.current_trio_token()
        self.event = trio.Event()

    def note(self, record: logging.LogRecord) -> bool:
        if self._text in record.getMessage():
            self._token.run_sync_soon(self.event.set)
        return True


async def test_a_wrong_consumer_or_bucket_is_named_and_nothing_is_taken(
    tmp_path: Path,
    nats_server: NATSProcess,
    jetstream: JetStream,
    target: Target,
    address: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = Told("there is no key-value bucket MAIL-results")
    jetstream.ask("STREAM.DELETE.FAILED")
    config = {"stream_name": "MAIL", "config": {**CONSUMER, "durable_name": "other", "ack_wait": 1_000_000_000}}
    jetstream.ask("CONSUMER.DELETE.MAIL.triosmtp")
    jetstream.ask("CONSUMER.DURABLE.CREATE.MAIL.other", config)
    jetstream.ask("STREAM.DELETE.KV_MAIL-results")
    await publish(nats_server, stream_message(1, envelope=envelope("joe")))
    caplog.handler.addFilter(told.note)
    async with consuming_here(tmp_path, nats_server, address, 'Durable_Name = "other"'):
        await told.event.wait()
    assert "ack_wait: 1 s" in caplog.text
    assert "Failure_Subject: no stream has the subject mail.failed.>" in caplog.text
    assert target.received == []


async def test_sigterm_lets_a_message_finish(
    tmp_path: Path, nats_server: NATSProcess, jetstream: JetStream, target: Target, address: str
) -> None:
    process: list[subprocess.Popen[str]] = []

    def stop(recipient: str) -> None:
        if recipient == "joe":  # a second signal would end it at once
            process[0].send_signal(signal.SIGTERM)

    target.before = stop
    await publish(nats_server, stream_message(1, envelope=envelope("joe", "ann")))
    with consuming(tmp_path, nats_server.port, address) as consumer:
        process.append(consumer.process)
        await trio.to_thread.run_sync(consumer.process.wait)
    assert target.received == ["joe", "ann"]
    assert jetstream.ask("STREAM.INFO.MAIL")["state"]["messages"] == 0


async def test_a_message_that_does_not_finish_is_returned(
    tmp_path: Path,
    nats_server: NATSProcess,
    jetstream: JetStream,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Another consumer has it at once, and not when `ack_wait` is over."""
    monkeypatch.setattr(consumer_runner, "_GRACE", 0.0)
    (port,) = free_ports(1)

    async def never_answer(_client: trio.SocketStream) -> None:
        await trio.sleep_forever()

    def wait_until_taken() -> None:
        while jetstream.ask("CONSUMER.INFO.MAIL.triosmtp")["num_ack_pending"] != 1:
            pass

    await publish(nats_server, stream_message(1, envelope=envelope("joe")))
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_tcp, never_answer, port, host="127.0.0.1"))
        async with consuming_here(tmp_path, nats_server, f"smtp://127.0.0.1:{port}"):
            await trio.to_thread.run_sync(wait_until_taken)
        nursery.cancel_scope.cancel()
    with trio.fail_after(15):
        async with consuming_here(tmp_path, nats_server, f"maildir:{tmp_path}/Maildir"):
            await trio.to_thread.run_sync(wait_empty, jetstream, abandon_on_cancel=True)
    assert "attempt 2, no result is recorded of 'joe@example.com'" in caplog.text
