"""A message under way: its envelope, and its spooled body that can be read again.

The envelope is filled command by command; a :class:`Message` is what policy (at ``data_spool``) and delivery get.
Neither sees the connection.
"""

from collections.abc import Mapping
from datetime import datetime

from attrs import Factory, define, frozen

from triosmtp.message.spool import Body
from triosmtp.smtp import Address, decode_orcpt, decode_xtext

__all__ = ["Envelope", "Message", "Recipient"]


@frozen(slots=True)
class Recipient:
    """One accepted recipient: its address, and the ESMTP parameters that came with it."""

    address: Address
    parameters: Mapping[str, str | None]

    def __str__(self) -> str:
        return str(self.address)

    @property
    def notify(self) -> frozenset[str]:
        """When the sender wants a report: of NEVER, SUCCESS, FAILURE, DELAY; empty where it did not say (RFC 3461)."""
        return frozenset(filter(None, (self.parameters.get("NOTIFY") or "").split(",")))

    @property
    def original(self) -> tuple[str, str] | None:
        """Type and address of ORCPT, decoded; None where there is none (RFC 3461, section 4.2; RFC 6533)."""
        value = self.parameters.get("ORCPT")
        return None if value is None else decode_orcpt(value)


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

    @property
    def body_type(self) -> str:
        """``7BIT``, ``8BITMIME`` or ``BINARYMIME``: what the sender says the body is (RFC 6152, RFC 3030)."""
        return self.parameters.get("BODY") or "7BIT"

    @property
    def requiretls(self) -> bool:
        """Whether the message may go on over verified TLS alone (RFC 8689)."""
        return "REQUIRETLS" in self.parameters

    @property
    def ret(self) -> str | None:
        """``FULL`` or ``HDRS``: what a report of failure holds of the message (RFC 3461, section 4.3)."""
        return self.parameters.get("RET")

    @property
    def envid(self) -> str | None:
        """The sender's name for the transaction, decoded (RFC 3461, section 4.4)."""
        value = self.parameters.get("ENVID")
        return None if value is None else decode_xtext(value)

    @property
    def deliver_by(self) -> tuple[int, str, bool] | None:
        """Seconds, mode (``N`` or ``R``), and whether a trace is wanted (RFC 2852, section 4)."""
        value = self.parameters.get("BY")
        if value is None:
            return None
        seconds, _, mode = value.partition(";")
        return int(seconds), mode[0], mode.endswith("T")

    @property
    def priority(self) -> int:
        """From -9 to 9, 0 where the sender did not say (RFC 6710)."""
        return int(self.parameters.get("MT-PRIORITY") or 0)


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
