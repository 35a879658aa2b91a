"""The report about mail that could not be delivered (RFC 3464), and whether there may be one.

No report is made for a report, for lists and other automatic mail, against NOTIFY, or for mail of unknown clients, who
could make the server send reports to anybody.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final

from triosmtp.delivery import RecipientResult
from triosmtp.message import Recipient
from triosmtp.message.envelope_document import EnvelopeDocument
from triosmtp.message.trace import field

__all__ = ["make_report", "recipients_to_report"]

_MAX_HEADER: Final = 64 * 1024
_AUTOMATIC: Final = re.compile(
    rb"^(?:List-Id:|List-Unsubscribe:|List-Post:|Precedence:[ \t]*(?:bulk|list|junk)"
    rb"|Auto-Submitted:[ \t]*(?!no\b)\S)",
    re.IGNORECASE | re.MULTILINE,
)


def recipients_to_report(
    document: EnvelopeDocument, header: bytes, failed: Sequence[Recipient], *, strangers: bool
) -> list[Recipient]:
    """Return those of the ``failed`` recipients that the sender is to receive a report about.

    ``header`` is the header section of the message.  ``strangers`` is whether unknown senders receive reports.
    """
    context = document.connection_context
    known = context.get("auth_status") == "pass" or context.get("tls_client_verified") == "yes"
    if not document.envelope.sender or not (known or strangers) or _AUTOMATIC.search(header):
        return []
    return [each for each in failed if not each.notify or "FAILURE" in each.notify]


def make_report(
    document: EnvelopeDocument,
    header: bytes,
    failed: Sequence[tuple[Recipient, RecipientResult]],
    *,
    hostname: str,
    now: datetime,
) -> bytes:
    """Return the report to the sender of a message about ``failed`` recipients."""
    boundary = f"=_{document.sha256[:24]}"
    sender = document.envelope.sender.text
    lines = [
        field("From", f"Mail Delivery System <MAILER-DAEMON@{hostname}>"),
        field("To", f"<{sender}>"),
        field("Subject", "Undelivered Mail Returned to Sender"),
        field("Date", format_datetime(now.astimezone(UTC))),
        field("Message-ID", f"<report.{document.id}@{hostname}>"),
        field("Auto-Submitted", "auto-replied"),
        b"MIME-Version: 1.0\r\n",
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n boundary="{boundary}"\r\n\r\n'.encode(),
        f"--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n".encode(),
        b"Your message could not be delivered to these recipients:\r\n\r\n",
    ]
    for recipient, result in failed:
        lines.append(field(f" {_clean(str(recipient))}", _clean(f"{result.code} {result.enhanced} {result.text}")))
    lines.append(f"\r\n--{boundary}\r\nContent-Type: message/delivery-status\r\n\r\n".encode())
    lines.append(field("Reporting-MTA", f"dns; {hostname}"))
    if envid := document.envelope.envid:
        lines.append(field("Original-Envelope-Id", envid))
    lines.append(field("Arrival-Date", format_datetime(document.received)))
    for recipient, result in failed:
        lines.append(b"\r\n")
        if recipient.original is not None:
            lines.append(field("Original-Recipient", "; ".join(recipient.original)))
        lines.append(field("Final-Recipient", f"rfc822; {recipient}"))
        lines.append(field("Action", "failed"))
        lines.append(field("Status", _status(result)))
        lines.append(field("Diagnostic-Code", f"smtp; {result.code} {_clean(result.text)}"))
    lines.append(f"\r\n--{boundary}\r\nContent-Type: text/rfc822-headers\r\n\r\n".encode())
    lines.append(header[:_MAX_HEADER].replace(f"--{boundary}".encode(), b"--"))
    lines.append(f"\r\n--{boundary}--\r\n".encode())
    return b"".join(lines)


def _status(result: RecipientResult) -> str:
    """Return the status code; one of a temporary failure became permanent when the message expired."""
    return result.enhanced if re.fullmatch(r"5\.\d{1,3}\.\d{1,3}", result.enhanced) else "5.0.0"


def _clean(text: str) -> str:
    return " ".join(text.split())[:500]
