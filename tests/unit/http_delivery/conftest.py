"""A message for the tests of delivery by HTTP."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from triosmtp.message import Envelope, Message, Recipient
from triosmtp.message.spool import Body
from triosmtp.smtp import parse_path

MakeMessage = Callable[..., Message]


@pytest.fixture
def make_message() -> MakeMessage:
    """Make a message with these octets as its body."""

    def make(body: bytes | Body = b"Subject: x\r\n\r\nhello\r\n", sender: str = "<a@example.org>") -> Message:
        recipient = Recipient(parse_path(b"<b@example.com>", utf8=False), {"NOTIFY": "NEVER"})
        return Message(
            id="s-1-1",
            envelope=Envelope(parse_path(sender.encode(), utf8=False), {"BODY": "8BITMIME"}, [recipient]),
            body=body if isinstance(body, Body) else Body(body),
            trace=b"Received: by mx\r\n",
            received=datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC),
            variables={"tls_client_verified": "yes"},
            message_variables={"rspamd_action": "no action"},
        )

    return make
