"""A message under way: its envelope, and its spooled body that can be read again.

The envelope is filled command by command; a :class:`Message` is what policy (at ``data_spool``) and delivery get.
Neither sees the connection.
"""

from collections.abc import Mapping
from datetime import datetime

from attrs import Factory, define, frozen

from triosmtp.smtp.address import Address
from triosmtp.spool import Body

__all__ = ["Envelope", "Message", "Recipient"]


@frozen(slots=True)
class Recipient:
    """One accepted recipient: its address, and the ESMTP parameters that came with it."""

    address: Address
    parameters: Mapping[str, str | None]

    def __str__(self) -> str:
        return str(self.address)


@define(slots=True)
class Envelope:
    """The envelope (RFC 5321, section 2.3.1): who sends, with what parameters, and to whom.

    ``sender`` is false for the null reverse-path; ``parameters`` are those of MAIL.
    """

    sender: Address
    parameters: Mapping[str, str | None] = Factory(dict)
    recipients: list[Recipient] = Factory(list)

    @property
    def smtputf8(self) -> bool:
        """Whether the sender asked for SMTPUTF8 (RFC 6531)."""
        return "SMTPUTF8" in self.parameters


@define(slots=True, kw_only=True)
class Message:
    """A message that was received whole.

    ``trace`` holds the header fields that go in front of the body, CRLF line ends, in their final order (Received and
    what policy adds; not Return-Path, which belongs to final delivery: RFC 5321, section 4.4).  ``body`` holds what the
    client sent.
    """

    id: str
    """Unique to this message: the session's id, a dash, and its number in the session."""
    envelope: Envelope
    body: Body
    trace: bytes = b""
    received: datetime
    """When the end of the body arrived, in UTC."""
    variables: Mapping[str, str] = Factory(dict)
    """The connection context as it was when the message was complete."""
    message_variables: Mapping[str, str] = Factory(dict)
    """The message context likewise."""

    @property
    def size(self) -> int:
        """Octets of the body as it was received, without ``trace``."""
        return self.body.size
