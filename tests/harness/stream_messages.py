"""Messages to publish."""

from datetime import UTC, datetime
from typing import Any

from triosmtp.message import Envelope, Message, Recipient
from triosmtp.message.spool import Body
from triosmtp.smtp import Address

__all__ = ["stream_message"]


def stream_message(
    number: int = 1, content: bytes | Body = b"Subject: hello\r\n\r\ntext\r\n", **fields: Any
) -> Message:
    """Return a message with the id ``mx1-0a-NUMBER``, from me@example.org to joe@example.com."""
    recipients = [Recipient(Address("joe", "example.com"), {})]
    values: dict[str, Any] = {
        "id": f"mx1-0a-{number}",
        "envelope": Envelope(Address("me", "example.org"), {"BODY": "8BITMIME"}, recipients),
        "body": content if isinstance(content, Body) else Body(content),
        "trace": b"Received: from a by b;\r\n Tue, 03 Feb 2026 04:05:06 +0000\r\n",
        "received": datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC),
    }
    return Message(**(values | fields))
