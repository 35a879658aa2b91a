"""Reports about mail that could not be delivered: when there is one, and its parts (RFC 3464)."""

import email
from datetime import UTC, datetime
from email.message import Message
from typing import Any

import pytest

from triosmtp.delivery import RecipientResult
from triosmtp.jetstream.delivery_report import make_report, recipients_to_report
from triosmtp.message import Envelope, Recipient
from triosmtp.message.envelope_document import EnvelopeDocument
from triosmtp.smtp import Address

JOE = Recipient(Address("joe", "example.com"), {"ORCPT": "rfc822;j+2Boe@example.com"})
ANN = Recipient(Address("ann", "example.com"), {"NOTIFY": "NEVER"})
SUE = Recipient(Address("sue", "example.com"), {"NOTIFY": "FAILURE,DELAY"})
TOM = Recipient(Address("tom", "example.com"), {"NOTIFY": "SUCCESS"})
HEADER = b"Subject: hello\r\nAuto-Submitted: no\r\n"


def document(sender: Address = Address("me", "example.org"), **context: str) -> EnvelopeDocument:  # noqa: B008
    return EnvelopeDocument(
        id="mx1-1",
        node="mx1",
        received=datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC),
        envelope=Envelope(sender, {"ENVID": "a+2Bb"}, [JOE, ANN, SUE, TOM]),
        connection_context=context,
        size=1,
        sha256="ab" * 32,
    )


def wanted(found: EnvelopeDocument, header: bytes = HEADER, *, strangers: bool = True) -> list[Recipient]:
    return recipients_to_report(found, header, [JOE, ANN, SUE, TOM], strangers=strangers)


def test_recipients_that_asked_for_none_are_left_out() -> None:
    assert wanted(document()) == [JOE, SUE]


@pytest.mark.parametrize(
    "line",
    [b"List-Id: <x>", b"Precedence: bulk", b"precedence: list", b"Auto-Submitted: auto-replied", b"List-Post: <x>"],
)
def test_automatic_mail_gets_no_report(line: bytes) -> None:
    assert wanted(document(), HEADER + line + b"\r\n") == []


def test_a_report_gets_no_report() -> None:
    assert wanted(document(Address.NULL)) == []


def test_mail_of_unknown_clients_gets_no_report_unless_that_is_permitted() -> None:
    assert wanted(document(), strangers=False) == []
    assert wanted(document(auth_status="error", auth_user="x"), strangers=False) == []
    assert wanted(document(tls_client_verified="no"), strangers=False) == []
    assert wanted(document(auth_status="pass"), strangers=False) == [JOE, SUE]
    assert wanted(document(tls_client_verified="yes"), strangers=False) == [JOE, SUE]


def test_the_report_has_the_three_parts_of_rfc_3464() -> None:
    failed = [
        (JOE, RecipientResult(550, "5.1.1", "no such\r\nuser")),
        (SUE, RecipientResult(451, "4.3.0", "busy")),
    ]
    data = make_report(document(), HEADER, failed, hostname="mx.example.org", now=datetime.now(UTC))
    assert data.count(b"\r\n") == data.count(b"\n")
    report = email.message_from_bytes(data)
    assert (report.get_content_type(), report.get_param("report-type")) == ("multipart/report", "delivery-status")
    assert (report["To"], report["Auto-Submitted"]) == ("<me@example.org>", "auto-replied")
    parts: Any = report.get_payload()
    text, status, headers = parts
    assert "joe@example.com: 550 5.1.1 no such user" in text.get_payload()
    message, *recipients = status.get_payload()
    assert (message["Reporting-MTA"], message["Original-Envelope-Id"]) == ("dns; mx.example.org", "a+b")
    assert [each["Final-Recipient"] for each in recipients] == ["rfc822; joe@example.com", "rfc822; sue@example.com"]
    assert [each["Status"] for each in recipients] == ["5.1.1", "5.0.0"]
    assert recipients[0]["Original-Recipient"] == "rfc822; j+oe@example.com"
    assert headers.get_content_type() == "text/rfc822-headers"
    assert isinstance(headers, Message)
    assert "Subject: hello" in str(headers.get_payload())


def test_a_header_cannot_end_its_part() -> None:
    forged = b"X: 1\r\n--=_abababababababababababab--\r\n"
    data = make_report(document(), forged, [(JOE, RecipientResult(550))], hostname="h", now=datetime.now(UTC))
    parts: Any = email.message_from_bytes(data).get_payload()
    assert len(parts) == 3
