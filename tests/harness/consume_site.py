"""A stream with a consumer, a bucket of results and a stream of failures; a configuration of `triosmtp consume`."""

import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio
from nats_servers import OBJECT_BUCKET, STREAM, JetStream, NATSProcess
from serve_process import COMMAND, environment_of
from stream_site import open_delivery

from triosmtp.commands import consume
from triosmtp.config import load_config
from triosmtp.message import Envelope, Message, Recipient
from triosmtp.smtp import Address

__all__ = [
    "CONFIGURATION", "CONSUMER", "FAILED", "RESULTS", "Consuming", "consuming", "consuming_here", "envelope", "mails",
    "make_site", "publish", "wait_empty",
]  # fmt: skip

FAILED = {"name": "FAILED", "subjects": ["mail.failed.>"], "storage": "file", "discard": "new", "num_replicas": 1}
RESULTS = {
    "name": "KV_MAIL-results", "subjects": ["$KV.MAIL-results.>"], "storage": "file", "discard": "new",
    "max_msgs_per_subject": 1, "allow_rollup_hdrs": True, "num_replicas": 1,
}  # fmt: skip
CONSUMER = {
    "durable_name": "triosmtp", "ack_policy": "explicit", "ack_wait": 20_000_000_000, "max_deliver": -1,
    "deliver_policy": "all",
}  # fmt: skip
CONFIGURATION = """
Node_Name = "c1"
Delivery "queue" {{ Deliver_To = "nats://127.0.0.1:{port}/MAIL/mail.in?replicas=1" }}
Consumer "mailbox" {{
  Read_From = "queue"
  Deliver_To = "{target}"
  Failure_Subject = "mail.failed"
  Retry_Delays = ( 0.2 )
  {options}
}}
"""


def make_site(jetstream: JetStream) -> None:
    """Make everything that a consumer needs, in place of what is there."""
    for config in {**STREAM, "retention": "workqueue"}, OBJECT_BUCKET, FAILED, RESULTS:
        jetstream.make(config)
    consumer = {"stream_name": "MAIL", "config": CONSUMER}
    answer = jetstream.ask("CONSUMER.DURABLE.CREATE.MAIL.triosmtp", consumer)
    assert "error" not in answer, answer


def envelope(*names: str, sender: str = "me") -> Envelope:
    recipients = [Recipient(Address(name, "example.com"), {}) for name in names]
    return Envelope(Address(sender, "example.org") if sender else Address.NULL, {}, recipients)


def mails(folder: Path) -> list[bytes]:
    return sorted(each.read_bytes() for place in ("new", "cur") for each in (folder / place).glob("*"))


def wait_empty(jetstream: JetStream) -> None:
    """Wait until every message of the stream is settled."""
    while jetstream.ask("STREAM.INFO.MAIL")["state"]["messages"]:
        pass


class Consuming:
    """A `triosmtp consume` that runs, and its log."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        """Its log so far."""
        return self._log.read_text()


@contextmanager
def consuming(folder: Path, port: int, target: str, options: str = "") -> Iterator[Consuming]:
    """Run the command, and end it by SIGTERM; ``port`` is that of NATS."""
    folder.mkdir(exist_ok=True)
    config, log = folder / "consume.conf", folder / "log"
    config.write_text(CONFIGURATION.format(port=port, target=target, options=options))
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [*COMMAND, "consume", "-c", str(config)], stderr=stderr, stdout=subprocess.DEVNULL, text=True,
            env=environment_of(),
        )  # fmt: skip
    try:
        yield Consuming(process, log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        code = process.wait(30)
    assert code in {0, -signal.SIGKILL}, log.read_text()
    assert "Traceback" not in log.read_text()


@asynccontextmanager
async def consuming_here(folder: Path, server: NATSProcess, target: str, options: str = "") -> AsyncIterator[None]:
    """Run the consumers of `triosmtp consume` in this process, which costs less than one of their own."""
    config = folder / "consume.conf"
    config.write_text(CONFIGURATION.format(port=server.port, target=target, options=options))
    loaded = load_config(config)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(consume._run_consumer, loaded, "mailbox", loaded.consumers["mailbox"])
        yield
        nursery.cancel_scope.cancel()


async def publish(server: NATSProcess, *messages: Message) -> None:
    """Publish messages as a node does."""
    async with open_delivery(server) as delivery:
        for message in messages:
            await delivery.deliver(message)
