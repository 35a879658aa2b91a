"""The settings of one sans-io connection: frozen, resolved once, kept until the connection ends."""

from collections.abc import Hashable
from typing import Final, Literal, TypeAlias

from attrs import Factory, field, frozen
from attrs.validators import ge, in_, min_len

__all__ = ["MAX_HEADER", "ConnectionSettings", "LineEnding"]

MAX_HEADER: Final = 1 << 20
"""Octets up to the first empty line of a message, or to the end of a message that has none."""

LineEnding: TypeAlias = Literal["ignore", "fix", "pedantic"]
"""What becomes of a CR or LF that is no part of CRLF: kept as it came, made a CRLF, or the message is refused."""

_LINE_ENDINGS: tuple[LineEnding, ...] = ("ignore", "fix", "pedantic")


@frozen(slots=True, kw_only=True)
class ConnectionSettings:
    """What a :class:`~triosmtp.smtp.Connection` offers and puts up with.

    :raises ValueError: where a number is too small, ``hostname`` is empty, or a choice is not one of its names.
    """

    hostname: str = field(validator=min_len(1))
    """Our name in the banner and in the answers to EHLO and HELO."""
    starttls: bool = False
    """Whether STARTTLS is offered while the connection is in plaintext."""
    enhanced_status_codes: bool = True
    """Whether ENHANCEDSTATUSCODES is offered and used (RFC 2034)."""
    extensions: frozenset[str] = frozenset()
    """What else is offered: of CHUNKING, BINARYMIME, DSN, LIMITS, REQUIRETLS (over TLS), DELIVERBY, MT-PRIORITY,
    FUTURERELEASE, by their keywords in upper case; and of XCLIENT, XREMOTEIP, XDUMPCONTEXT, XSETCONTEXT, for trusted
    peers alone."""
    max_mails: int = field(default=0, validator=ge(0))
    """Messages in one connection, for LIMITS (RFC 9422) to tell; 0 is unlimited."""
    max_recipients: int = field(default=0, validator=ge(0))
    """Recipients of one message, likewise."""
    max_hold: int = field(default=2_592_000, validator=ge(1))
    """Seconds that FUTURERELEASE may ask for (RFC 4865)."""
    max_message_size: int = field(default=0, validator=ge(0))
    """Octets of a body without its stuffed dots; 0 is unlimited."""
    max_discarded_size: int = field(default=67_108_864, validator=ge(0))
    """Octets of a body that is refused already, or of a command line that is too long, which are read and thrown away,
    so that the sender hears the reply; whoever sends more hears it at once, and the connection ends."""
    require_hello: bool = False
    """Whether MAIL needs an EHLO or HELO before it.  After STARTTLS it always does."""
    require_tls: bool = False
    """Whether, until TLS is up, only what RFC 3207, section 4, lets through is taken: the rest is 530."""
    allow_null_sender: bool = True
    """Whether ``MAIL FROM:<>`` is taken."""
    allow_ip_literal: bool = True
    """Whether the domain of an address may be an address literal such as ``[192.0.2.1]``."""
    allow_unbracketed: bool = False
    """Whether an address in MAIL and RCPT may come without ``<`` and ``>``."""
    allow_trailing_whitespace: bool = True
    """Whether white space between a command and its CRLF is overlooked (RFC 5321, section 4.1.1).  Tabs are not after
    BDAT: its octets follow, so its line is read strictly."""
    sender_domain: str | None = None
    """The domain given to a sender without one; None refuses it."""
    recipient_domain: str | None = None
    """The domain given to a recipient without one (postmaster never needs one); None refuses it."""
    starttls_injection: Literal["reject", "ignore", "allow"] = field(
        default="reject", validator=in_(("reject", "ignore", "allow"))
    )
    """What becomes of octets that came behind STARTTLS before the handshake."""
    lone_lf_in_headers: LineEnding = field(default="pedantic", validator=in_(_LINE_ENDINGS))
    """A lone CR or LF up to the first empty line of a message."""
    lone_lf_in_body: LineEnding = field(default="pedantic", validator=in_(_LINE_ENDINGS))
    """A lone CR or LF after the first empty line of a message."""
    max_command_errors: int = field(default=20, validator=ge(0))
    """Errors and refusals put up with; the next one ends the connection.  0 is unlimited."""
    max_junk_commands: int = field(default=100, validator=ge(0))
    """Commands that do nothing for a message (NOOP, RSET, another EHLO, AUTH, …), or are refused by a limit, put up
    with; 0 is unlimited."""
    max_body_line: int = field(default=0, validator=ge(0))
    """Octets of a line of a message without its CRLF; 0 is unlimited (RFC 5322, section 2.1.1, allows 998)."""
    long_lines: Literal["none", "fix", "reject"] = field(default="none", validator=in_(("none", "fix", "reject")))
    """What becomes of longer ones: they stay, are broken by CRLF and a space, or refuse the message."""
    max_line: int = field(default=2048, validator=ge(512))
    """Octets of a command line with its CRLF (RFC 5321, section 4.5.3.1.4, asks for at least 512)."""
    strict_body: bool = field(
        init=False,
        eq=False,
        repr=False,
        default=Factory(
            lambda self: (
                self.lone_lf_in_headers == self.lone_lf_in_body == "pedantic"
                and (self.long_lines == "none" or not self.max_body_line)
            ),
            takes_self=True,
        ),
    )
    """Whether a message with a lone CR or LF is refused, and nothing else is looked for in its lines."""
    max_short_body: int = field(
        init=False,
        eq=False,
        repr=False,
        default=Factory(lambda self: min(MAX_HEADER, self.max_message_size or MAX_HEADER), takes_self=True),
    )
    """Octets of a body that exceeds neither :attr:`max_message_size` nor what a header section may have."""
    rendered: dict[Hashable, bytes] = field(init=False, factory=dict, eq=False, repr=False)
    """Positive replies as bytes, which :meth:`Connection.accept` renders once for all connections with these settings.

    The keys are rows of the table, with what else the reply depends on.  No key comes from a peer."""
