"""The parameters that a hop receives, and the extensions that are offered if it has them."""

import pytest
from attrs import evolve
from scripted_hop import envelope

from triosmtp.message import Recipient
from triosmtp.next_hop.hop_parameters import declared, lacking, mail_line, rcpt_line
from triosmtp.smtp import Address
from triosmtp.smtp.extensions import NO_EXTENSIONS, Extensions
from triosmtp.smtp.reply_parser import ReceivedReply


def offered(*lines: str) -> Extensions:
    return Extensions.of(ReceivedReply(250, ("mx", *lines)))


def test_declared() -> None:
    every = offered("DSN", "BINARYMIME", "CHUNKING", "REQUIRETLS", "DELIVERBY", "MT-PRIORITY MIXER", "SIZE")
    assert declared(every, secure=True) == {"DSN", "BINARYMIME", "REQUIRETLS", "DELIVERBY", "MT-PRIORITY"}
    assert "REQUIRETLS" not in declared(every, secure=False)
    assert declared(offered("BINARYMIME"), secure=True) == set()


@pytest.mark.parametrize(
    ("by", "elapsed", "expected"),
    [("120;R", 100, "20;R"), ("120;RT", 200, "1;RT"), ("120;N", 200, "-80;N"), ("-5;N", 0, "-5;N")],
)
def test_time_that_has_passed_is_taken_off(by: str, elapsed: int, expected: str) -> None:
    line = mail_line(offered("DELIVERBY"), envelope(parameters={"BY": by}), elapsed=elapsed)
    assert line == f"MAIL FROM:<a@example.org> BY={expected}\r\n".encode()


def test_size_and_body() -> None:
    given = envelope(parameters={"SIZE": "10", "BODY": "8BITMIME"})
    assert mail_line(NO_EXTENSIONS, given) == b"MAIL FROM:<a@example.org>\r\n"
    assert mail_line(offered("SIZE", "8BITMIME"), given) == b"MAIL FROM:<a@example.org> SIZE=10 BODY=8BITMIME\r\n"
    assert mail_line(offered("SIZE"), given, size=12) == b"MAIL FROM:<a@example.org> SIZE=12\r\n"
    assert mail_line(offered("SIZE 5"), envelope(), size=12) == b"MAIL FROM:<a@example.org> SIZE=12\r\n"


def test_a_sender_that_a_policy_made_international() -> None:
    changed = evolve(envelope(), sender=Address("\u00fc", "example.org"))
    assert b"SMTPUTF8" in mail_line(offered("SMTPUTF8"), changed)
    refused = lacking(NO_EXTENSIONS, changed, [], secure=False)
    assert refused is not None
    assert refused.code == 553


def test_recipients_lack_dsn() -> None:
    recipient = Recipient(Address("b", "example.com"), {"NOTIFY": "NEVER"})
    found = lacking(NO_EXTENSIONS, envelope(), [recipient], secure=False)
    assert found is not None
    assert (found.code, found.reason) == (451, "the hop does not offer DSN at the moment")
    assert lacking(offered("DSN"), envelope(), [recipient], secure=False) is None
    assert rcpt_line(recipient) == b"RCPT TO:<b@example.com> NOTIFY=NEVER\r\n"
