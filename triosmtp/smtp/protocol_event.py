"""The events of a :class:`~triosmtp.smtp.Connection`: commands, the body, errors, and the end."""

from collections.abc import Mapping
from enum import Enum, auto
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal, TypeAlias

from attrs import field, frozen

from triosmtp.smtp.mail_address import Address
from triosmtp.smtp.parameter import Parameters
from triosmtp.smtp.reply import Reply

__all__ = [
    "NEED_DATA",
    "PAUSED",
    "Auth",
    "AuthResponse",
    "BadCommand",
    "Bdat",
    "BodyChunk",
    "BodyEnd",
    "ChunkEnd",
    "ConnectionEnded",
    "Data",
    "Event",
    "Hello",
    "Help",
    "MailFrom",
    "Noop",
    "Pause",
    "ProtocolFailure",
    "Quit",
    "RcptTo",
    "Reset",
    "StartTLS",
    "SwitchToTLS",
    "Verify",
    "XClient",
    "XDumpContext",
    "XRemoteIP",
    "XSetContext",
]  # fmt: skip


class Pause(Enum):
    """The reasons why there is no event now."""

    NEED_DATA = auto()
    PAUSED = auto()


NEED_DATA: Final = Pause.NEED_DATA
"""All received octets were handled: write the replies, then read."""
PAUSED: Final = Pause.PAUSED
"""A reply is owed: call ``accept`` or ``send`` first."""


@frozen(slots=False)  # made in two thirds of the time
class Hello:
    """EHLO or HELO.  ``line`` is the whole command line."""

    verb: Literal["EHLO", "HELO"]
    domain: str
    line: str


@frozen(slots=True)
class Auth:
    """AUTH (RFC 4954): a mechanism, in upper case, and the decoded initial response or None.

    A 334 asks for an :class:`AuthResponse`, 235 ends the exchange well.
    """

    mechanism: str
    initial: bytes | None = field(default=None, repr=False)


@frozen(slots=True)
class AuthResponse:
    """The decoded response to a 334, or None if the client cancelled the exchange."""

    data: bytes | None = field(repr=False)


@frozen(slots=False)  # made in two thirds of the time
class MailFrom:
    """MAIL FROM.  ``sender`` is false for the null path ``<>``; ``path`` is the path as the client sent it."""

    sender: Address
    parameters: Parameters
    path: str


@frozen(slots=False)  # made in two thirds of the time
class RcptTo:
    """RCPT TO.  ``path`` is the path as the client sent it."""

    recipient: Address
    parameters: Parameters
    path: str


@frozen(slots=True)
class Data:
    """DATA: the positive reply is 354, and the body follows."""


@frozen(slots=True)
class Bdat:
    """BDAT (RFC 3030): ``size`` octets follow it.  No reply is owed until they have arrived.

    ``first`` is whether the message begins with it.  The next events are :class:`BodyChunk`, then
    :class:`ChunkEnd`, or :class:`BodyEnd` if ``last``.
    """

    size: int
    last: bool
    first: bool = False


@frozen(slots=True)
class ChunkEnd:
    """The end of a chunk that is not the last: a reply is owed.  ``size`` and ``error`` are as in :class:`BodyEnd`.

    A refusal ends the transaction.
    """

    size: int
    error: Reply | None = None


@frozen(slots=True)
class BodyChunk:
    """A part of the body, without stuffed dots.  No reply is owed."""

    data: bytes


@frozen(slots=False)  # made in two thirds of the time
class BodyEnd:
    """The end of the body: a reply is owed.

    ``size`` counts the octets of the whole body.  ``error`` is the reply that refuses the body for its size or for its
    lines, or None.  After an error the rest of the body was discarded.  ``data`` is the last part of the body, which
    no :class:`BodyChunk` held; it may be empty.
    """

    size: int
    error: Reply | None = None
    data: bytes = b""


@frozen(slots=True)
class StartTLS:
    """STARTTLS: the positive reply is 220, and ``SwitchToTLS`` follows."""


@frozen(slots=True)
class SwitchToTLS:
    """The caller writes the 220, does the handshake, and calls ``tls_started``."""


@frozen(slots=True)
class Reset:
    """RSET."""


@frozen(slots=True)
class Noop:
    """NOOP."""


@frozen(slots=True)
class Verify:
    """VRFY."""

    argument: str


@frozen(slots=True)
class Help:
    """HELP."""

    argument: str


@frozen(slots=True)
class Quit:
    """QUIT: the connection is closed after the reply."""


@frozen(slots=True)
class XClient:
    """XCLIENT: the trusted peer announces a client, with its attributes by their names in upper case.

    A value is None if the peer does not know it.  Call :meth:`~triosmtp.smtp.Connection.change_peer` before the reply.
    """

    attributes: Mapping[str, str | None]


@frozen(slots=True)
class XRemoteIP:
    """XREMOTEIP: the trusted peer announces the address of a client.  See :class:`XClient`."""

    address: IPv4Address | IPv6Address


@frozen(slots=True)
class XDumpContext:
    """XDUMPCONTEXT."""


@frozen(slots=True)
class XSetContext:
    """XSETCONTEXT."""

    values: Mapping[str, str]


@frozen(slots=True)
class BadCommand:
    """A command that is refused, with the reply that is owed, and the reason for the log.  The session continues."""

    reply: Reply
    line: bytes
    reason: str


@frozen(slots=True)
class ProtocolFailure:
    """An error that ends the connection: send ``reply``, then close.  No further event follows."""

    reply: Reply
    reason: str
    injection: bool = False
    """Whether the error is plaintext input after STARTTLS, so that no handshake was begun."""


@frozen(slots=True)
class ConnectionEnded:
    """The peer closed.  ``clean`` is False if a command, a body or a reply was incomplete."""

    clean: bool


Event: TypeAlias = (
    Hello | Auth | AuthResponse | MailFrom | RcptTo | Data | Bdat | ChunkEnd | BodyChunk | BodyEnd | StartTLS
    | SwitchToTLS | Reset | Noop | Verify | Help | Quit | XClient | XRemoteIP | XDumpContext | XSetContext
    | BadCommand | ProtocolFailure | ConnectionEnded
)  # fmt: skip
