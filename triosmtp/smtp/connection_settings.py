"""The settings of a sans-io connection: frozen, resolved once, and valid until the connection ends."""

from typing import Final, Literal, TypeAlias

from attrs import Factory, field, frozen
from attrs.validators import ge, in_, min_len

__all__ = ["MAX_HEADER", "TRUSTED_EXTENSIONS", "ConnectionSettings", "LineEnding"]

MAX_HEADER: Final = 1 << 20
"""Octets of the header section of a message: up to its first empty line, or to its end."""
TRUSTED_EXTENSIONS: Final = frozenset({"XCLIENT", "XREMOTEIP", "XDUMPCONTEXT", "XSETCONTEXT"})
"""The extensions of trusted peers, which have the names of their commands."""

LineEnding: TypeAlias = Literal["ignore", "fix", "pedantic"]
"""The treatment of a CR or LF that is not a part of CRLF: it is kept, replaced by CRLF, or the message is refused."""

_LINE_ENDINGS: tuple[LineEnding, ...] = ("ignore", "fix", "pedantic")


@frozen(slots=True, kw_only=True)
class ConnectionSettings:
    """The extensions, limits and checks of a :class:`~triosmtp.smtp.Connection`.

    :raises ValueError: if a number is too small, ``hostname`` is empty, or a choice is not one of its names.
    """

    hostname: str = field(validator=min_len(1))
    """The name of the server in the banner and in the replies to EHLO and HELO."""
    starttls: bool = False
    """Whether STARTTLS is offered while the connection is in plaintext."""
    enhanced_status_codes: bool = True
    """Whether ENHANCEDSTATUSCODES is offered and used (RFC 2034)."""
    extensions: frozenset[str] = frozenset()
    """Further extensions that are offered, by their keywords in upper case.

    CHUNKING, BINARYMIME, DSN, LIMITS, REQUIRETLS (over TLS), DELIVERBY, MT-PRIORITY and FUTURERELEASE are for any
    client.  XCLIENT, XREMOTEIP, XDUMPCONTEXT and XSETCONTEXT are for trusted peers."""
    added_capabilities: tuple[str, ...] = ()
    """Further lines of the reply to EHLO."""
    removed_capabilities: frozenset[str] = frozenset()
    """Keywords, in upper case, that are not offered, and whose commands and parameters are refused."""
    max_mails: int = field(default=0, validator=ge(0))
    """Messages of one connection, as announced by LIMITS (RFC 9422); 0 is unlimited."""
    max_recipients: int = field(default=0, validator=ge(0))
    """Recipients of one message, as announced by LIMITS; 0 is unlimited."""
    max_hold: int = field(default=2_592_000, validator=ge(1))
    """Seconds that a client may request by FUTURERELEASE (RFC 4865)."""
    max_message_size: int = field(default=0, validator=ge(0))
    """Octets of a body without its stuffed dots; 0 is unlimited."""
    max_discarded_size: int = field(default=67_108_864, validator=ge(0))
    """Octets of a refused body, or of a command line that is too long, which are read and discarded before the reply.
    If a client sends more, the reply is sent at once and the connection ends."""
    require_hello: bool = False
    """Whether MAIL requires an EHLO or HELO before it.  After STARTTLS it always does."""
    require_tls: bool = False
    """Whether commands before TLS are refused with 530, except for those that RFC 3207, section 4, allows."""
    allow_null_sender: bool = True
    """Whether ``MAIL FROM:<>`` is accepted."""
    allow_ip_literal: bool = True
    """Whether the domain of an address may be an address literal such as ``[192.0.2.1]``."""
    allow_unbracketed: bool = False
    """Whether an address in MAIL and RCPT may have no ``<`` and ``>``."""
    allow_trailing_whitespace: bool = True
    """Whether white space between a command and its CRLF is ignored (RFC 5321, section 4.1.1).  After BDAT tabs are
    refused: octets follow it, so that its line is read strictly."""
    sender_domain: str | None = None
    """The domain added to a sender without one; None refuses such a sender."""
    recipient_domain: str | None = None
    """The domain added to a recipient without one, except for postmaster; None refuses such a recipient."""
    starttls_injection: Literal["reject", "ignore", "allow"] = field(
        default="reject", validator=in_(("reject", "ignore", "allow"))
    )
    """The treatment of octets that arrived after STARTTLS and before the handshake."""
    lone_lf_in_headers: LineEnding = field(default="pedantic", validator=in_(_LINE_ENDINGS))
    """A lone CR or LF up to the first empty line of a message."""
    lone_lf_in_body: LineEnding = field(default="pedantic", validator=in_(_LINE_ENDINGS))
    """A lone CR or LF after the first empty line of a message."""
    max_command_errors: int = field(default=20, validator=ge(0))
    """Errors and refusals that are allowed; the next one ends the connection.  0 is unlimited."""
    max_junk_commands: int = field(default=100, validator=ge(0))
    """Commands that are allowed although they do nothing for a message (NOOP, RSET, another EHLO, AUTH), or are
    refused by a limit; 0 is unlimited."""
    max_body_line: int = field(default=0, validator=ge(0))
    """Octets of a line of a message without its CRLF; 0 is unlimited (RFC 5322, section 2.1.1, allows 998)."""
    long_lines: Literal["none", "fix", "reject"] = field(default="none", validator=in_(("none", "fix", "reject")))
    """The treatment of longer lines: they are kept, broken by CRLF and a space, or the message is refused."""
    max_line: int = field(default=2048, validator=ge(512))
    """Octets of a command line with its CRLF (RFC 5321, section 4.5.3.1.4, requires at least 512)."""
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
    """Whether a message with a lone CR or LF is refused, and there is no other check of its lines."""
    max_short_body: int = field(
        init=False,
        eq=False,
        repr=False,
        default=Factory(lambda self: min(MAX_HEADER, self.max_message_size or MAX_HEADER), takes_self=True),
    )
    """Octets of a body that cannot exceed :attr:`max_message_size` or the limit of the header section."""
    rendered: dict[object, bytes] = field(init=False, factory=dict, eq=False, repr=False)
    """The positive replies as bytes, which :meth:`Connection.accept` renders once for all connections.

    A key is a row of the table, with the values that the reply depends on.  No key comes from a peer."""
