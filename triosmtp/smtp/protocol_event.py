"""What the sans-io connection tells its driver: the commands and the body, in the RFC's own words."""

from collections.abc import Mapping
from enum import Enum, auto
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal, TypeAlias

from attrs import field, frozen

from triosmtp.smtp.mail_address import Address
from triosmtp.smtp.reply import Reply

__all__ = [
    "NEED_DATA", "PAUSED", "Auth", "AuthResponse", "BadCommand", "BodyChunk", "BodyEnd", "Chunk", "ChunkEnd",
    "ConnectionEnded", "Data", "Event", "Fatal", "Hello", "Help", "MailFrom", "Noop", "Pause", "Quit", "RcptTo",
    "Reset", "StartTLS", "SwitchToTLS", "Verify", "XClient", "XDumpContext", "XRemoteIP", "XSetContext",
]  # fmt: skip

Parameters: TypeAlias = Mapping[str, str | None]
"""ESMTP parameters: upper-case keyword to value, None where there was no ``=``."""


class Pause(Enum):
    """Why there is no event just now."""

    NEED_DATA = auto()
    PAUSED = auto()


NEED_DATA: Final = Pause.NEED_DATA
"""Everything received was handled: send what is due, then read."""
PAUSED: Final = Pause.PAUSED
"""A reply is owed: call ``send`` first."""


@frozen(slots=True)
class Hello:
    """EHLO or HELO.  ``line`` is the whole command line, decoded."""

    verb: Literal["EHLO", "HELO"]
    domain: str
    line: str


@frozen(slots=True)
class Auth:
    """AUTH (RFC 4954): a mechanism, in upper case, and the decoded initial response; None where there was none.

    A 334 asks for an :class:`AuthResponse`, 235 ends the exchange well.
    """

    mechanism: str
    initial: bytes | None = field(default=None, repr=False)


@frozen(slots=True)
class AuthResponse:
    """What the client answered to a 334, decoded; None where it cancelled the exchange."""

    data: bytes | None = field(repr=False)


@frozen(slots=True)
class MailFrom:
    """MAIL FROM.  ``sender`` is false for the null path ``<>``; ``path`` is the path as it came, decoded."""

    sender: Address
    parameters: Parameters
    path: str


@frozen(slots=True)
class RcptTo:
    """RCPT TO."""

    recipient: Address
    parameters: Parameters
    path: str


@frozen(slots=True)
class Data:
    """DATA: a positive answer is 354, and the body follows."""


@frozen(slots=True)
class Chunk:
    """BDAT (RFC 3030): ``size`` octets follow it.  No reply is owed until they have come.

    ``first`` is whether the message begins with it.  What arrives is told as :class:`BodyChunk`, then comes a
    :class:`ChunkEnd`, or with ``last`` a :class:`BodyEnd`.
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
    """A part of the body, dots unstuffed, as it came otherwise.  No reply is owed."""

    data: bytes


@frozen(slots=True)
class BodyEnd:
    """The end of the body: a reply is owed.

    ``size`` counts the octets of the whole body.  ``error`` is the reply that refuses the body for its size or for its
    lines, or None.  After an error the rest of the body was thrown away.  ``data`` is the last part of the body, which
    no :class:`BodyChunk` held; it may be empty.
    """

    size: int
    error: Reply | None = None
    data: bytes = b""


@frozen(slots=True)
class StartTLS:
    """STARTTLS: a positive answer is 220, and ``SwitchToTLS`` follows."""


@frozen(slots=True)
class SwitchToTLS:
    """The 220 must be on its way now, then the handshake; ``tls_started`` tells the connection that it is done."""


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
    """QUIT: after the answer the connection is closed."""


@frozen(slots=True)
class XClient:
    """XCLIENT: the peer speaks for another one, of whom these are the attributes, by their names in capitals.

    None is what it does not know.  A :meth:`~triosmtp.smtp.Connection.renew` is to follow.
    """

    attributes: Mapping[str, str | None]


@frozen(slots=True)
class XRemoteIP:
    """XREMOTEIP: likewise, and nothing but the address changes."""

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
    """A soft error: the reply that is owed for it, and why, for the log.  The session goes on."""

    reply: Reply
    line: bytes
    reason: str


@frozen(slots=True)
class Fatal:
    """A hard error: send ``reply``, then close.  No further event follows."""

    reply: Reply
    reason: str
    injection: bool = False
    """Whether plaintext stood behind STARTTLS, so that no handshake was begun."""


@frozen(slots=True)
class ConnectionEnded:
    """The peer closed.  ``clean`` is False where that cut off a command, a body or a reply."""

    clean: bool


Event: TypeAlias = (
    Hello | Auth | AuthResponse | MailFrom | RcptTo | Data | Chunk | ChunkEnd | BodyChunk | BodyEnd | StartTLS
    | SwitchToTLS | Reset | Noop | Verify | Help | Quit | XClient | XRemoteIP | XDumpContext | XSetContext
    | BadCommand | Fatal | ConnectionEnded
)  # fmt: skip
