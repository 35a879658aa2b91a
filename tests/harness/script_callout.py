"""A callout for tests of host functions, with a real session and message."""

from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

from attrs import Factory, define

from triosmtp.lua.api.resources import Resources
from triosmtp.message import Envelope, Message, Recipient
from triosmtp.message.header_edits import HeaderEdits
from triosmtp.message.spool import Body
from triosmtp.policy import Session
from triosmtp.smtp import Address

MESSAGE = (
    b"From: =?utf-8?q?J=C3=B6rg?= <joerg+list@example.org>\r\nTo: a@example.com, B <b+x@example.net>\r\n"
    b"Subject: one\r\n  two\r\nX-Twice: 1\r\nX-Twice: 2\r\n\r\nhello body\r\n"
)


@define(slots=True, eq=False)
class EngineStub:
    """The parts of the engine that host functions use."""

    resources: Resources = Factory(Resources)
    logged: list[tuple[int, bytes]] = Factory(list)
    controls: dict[bytes, Any] = Factory(dict)
    authenticators: dict[bytes, Any] = Factory(dict)

    def log(self, level: int, text: bytes) -> None:
        self.logged.append((level, text))


@define(slots=True, eq=False)
class CalloutStub:
    """The first argument of host functions."""

    phase: str = "data_spool"
    method: str = "validate_data_spool"
    session: Session | None = None
    message: Message | None = None
    recipient: Recipient | None = None
    edits: HeaderEdits = Factory(HeaderEdits)
    at_end: list[Any] = Factory(list)
    after: list[Any] = Factory(list)
    put_off: int = 0
    engine: EngineStub = Factory(EngineStub)

    def may_log(self) -> bool:
        return True


def callout_with_message(data: bytes = MESSAGE, **changes: Any) -> CalloutStub:
    """Return a callout of validate_data_spool."""
    session = Session(
        id="ABC", listener=":25", peer="192.0.2.7:5000", peer_address=ip_address("192.0.2.7"), local="198.51.100.1:25"
    )
    session.variables["ehlo_domain"] = "client.example"
    session.message_variables.update({"mailfrom_localpart": "joerg", "mailfrom_domain": "example.org"})
    recipients = [Recipient(Address("a", "example.com"), {}), Recipient(Address("b", "example.net"), {})]
    session.envelope = envelope = Envelope(Address("joerg", "example.org"), {}, recipients)
    message = Message(id="ABC-1", envelope=envelope, body=Body(data), received=datetime.now(UTC))
    callout = CalloutStub(session=session, message=message)
    for name, value in changes.items():
        setattr(callout, name, value)
    return callout
