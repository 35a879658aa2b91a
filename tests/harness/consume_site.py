"""A stream with a consumer, a bucket of results and a stream of failures; a configuration of `triosmtp consume`."""

from pathlib import Path

from nats_servers import OBJECT_BUCKET, STREAM, JetStream

from triosmtp.message import Envelope, Recipient
from triosmtp.smtp import Address

__all__ = ["CONFIGURATION", "CONSUMER", "FAILED", "RESULTS", "envelope", "mails", "make_site", "wait_empty"]

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
