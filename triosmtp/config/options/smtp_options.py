"""Options of the SMTP dialogue: extensions, replies, and tolerance."""

# ruff: noqa: RUF009 - the calls declare fields, once, as attrs.field does

from typing import Literal, TypeAlias

from attrs import frozen

from triosmtp.config.option import option
from triosmtp.config.types.option_type import BOOLEAN, DOMAIN, DOMAIN_PATTERNS, HOSTNAME, LIMIT, choice
from triosmtp.config.types.smtp_types import BANNER, EXTENSIONS, REPLY_421

__all__ = ["SMTPOptions"]

MissingHeaders: TypeAlias = Literal["allow", "reject"]
LongLines: TypeAlias = Literal["none", "fix", "reject"]
LoneLF: TypeAlias = Literal["ignore", "fix", "pedantic"]

_MISSING_HEADERS: tuple[MissingHeaders, ...] = ("allow", "reject")
_LONG_LINES: tuple[LongLines, ...] = ("none", "fix", "reject")
_LONE_LF: tuple[LoneLF, ...] = ("ignore", "fix", "pedantic")


@frozen(slots=False, kw_only=True)
class SMTPOptions:
    """The SMTP dialogue: extensions, replies, and tolerance."""

    smtp_extensions: tuple[str, ...] = option(
        "SMTP_Extensions",
        EXTENSIONS,
        ("ENHANCEDSTATUSCODES",),
        "Extensions that are offered in addition to PIPELINING, 8BITMIME, SIZE and SMTPUTF8: ENHANCEDSTATUSCODES, "
        'STARTTLS, CHUNKING, LIMITS, "AUTH mechanism …". If the delivery honours them: BINARYMIME, DSN, REQUIRETLS '
        "(over TLS), DELIVERBY, MT-PRIORITY, FUTURERELEASE. For a trusted Peer: XCLIENT, XREMOTEIP, XDUMPCONTEXT, "
        "XSETCONTEXT.",
    )
    banner_hostname: str | None = option(
        "Banner_Hostname", HOSTNAME, None, "Host name in the banner and in replies; unset: that of the machine."
    )
    static_banner: str | None = option(
        "Static_Banner", BANNER, None, "The whole banner, including 220, instead of the usual one."
    )
    received_hostname: str | None = option(
        "Received_Hostname", HOSTNAME, None, "Host name in Received headers; unset: that of the banner."
    )
    require_ehlo: bool = option("Require_EHLO", BOOLEAN, False, "Whether EHLO or HELO must come before MAIL.")
    allow_null_envelope_sender: bool = option(
        "Allow_NULL_Envelope_Sender", BOOLEAN, True, "Whether MAIL FROM:<> is accepted, as bounces need it."
    )
    allow_ip_literal: bool = option(
        "Allow_IP_Literal", BOOLEAN, True, "Whether an address may have an IP literal instead of its domain."
    )
    allow_unbracketed_addresses: bool = option(
        "Allow_Unbracketed_Addresses",
        BOOLEAN,
        False,
        "Whether MAIL FROM:a@example.org and RCPT TO:a@example.org, without < and >, are accepted, as some devices "
        "send them; use it only in their Peer.",
    )
    allow_trailing_whitespace_in_commands: bool = option(
        "Allow_Trailing_Whitespace_In_Commands",
        BOOLEAN,
        True,
        "Whether white space may end a command line, as RFC 5321, section 4.1.1, requires; false refuses it with 501.",
    )
    domain_for_unqualified_sender_address: str | None = option(
        "Domain_For_Unqualified_Sender_Address",
        DOMAIN,
        None,
        "Domain that is added to a sender without one; unset: such a sender is refused.",
    )
    domain_for_unqualified_recipient_addresses: str | None = option(
        "Domain_For_Unqualified_Recipient_Addresses",
        DOMAIN,
        None,
        "Domain that is added to a recipient without one; unset: such a recipient, except postmaster, is refused.",
    )
    rfc2822_lone_lf_in_headers: LoneLF = option(
        "RFC2822_Lone_LF_In_Headers",
        choice(_LONE_LF),
        "pedantic",
        "A bare CR or LF in the headers of a message: ignore keeps it, fix makes it CRLF, pedantic refuses it.",
    )
    rfc2822_lone_lf_in_body: LoneLF = option(
        "RFC2822_Lone_LF_In_Body",
        choice(_LONE_LF),
        "pedantic",
        "A bare CR or LF in the body of a message: ignore keeps it, fix makes it CRLF, pedantic refuses it.",
    )
    rfc2822_missing_headers: MissingHeaders = option(
        "RFC2822_Missing_Headers",
        choice(_MISSING_HEADERS),
        "allow",
        "A message without any header: allow accepts it, reject refuses it.",
    )
    rfc2822_max_line_length: int = option(
        "RFC2822_Max_Line_Length",
        LIMIT,
        998,
        "Maximum bytes of a line of a message, without its CRLF, for RFC2822_Max_Line_Length_Policy. 0: unlimited.",
    )
    rfc2822_max_line_length_policy: LongLines = option(
        "RFC2822_Max_Line_Length_Policy",
        choice(_LONG_LINES),
        "none",
        "Treatment of longer lines: none keeps them, fix breaks them with CRLF and a space, reject refuses the "
        "message.",
    )
    max_received_headers: int = option(
        "Max_Received_Headers",
        LIMIT,
        100,
        "Received headers that a message may have already; beyond it 554: a mail loop. 0: unlimited.",
    )
    require_tls: bool = option(
        "Require_TLS",
        BOOLEAN,
        False,
        "Whether only EHLO, NOOP, STARTTLS and QUIT are accepted before TLS; others are answered 530.",
    )
    require_tls_for: tuple[str, ...] = option(
        "Require_TLS_For",
        DOMAIN_PATTERNS,
        (),
        "Domains whose recipients are accepted only over TLS: 530. example.org, *.example.org or *example.org.",
    )
    require_tls_from: tuple[str, ...] = option(
        "Require_TLS_From",
        DOMAIN_PATTERNS,
        (),
        "Domains whose senders are accepted only over TLS: 530. example.org, *.example.org or *example.org.",
    )
    rfc2822_trace_headers: bool = option(
        "RFC2822_Trace_Headers", BOOLEAN, True, "Whether a Received header is added to each message."
    )

    authentication_results: bool = option(
        "Authentication_Results",
        BOOLEAN,
        True,
        "Whether messages get an Authentication-Results header field if the client authenticated or presented a "
        "certificate, and lose arriving ones with our name.",
    )

    reconfig_message: str = option(
        "Reconfig_Message",
        REPLY_421,
        "4.3.2 Reconfiguration in progress",
        "The text after 421 at the next MAIL or RSET of a connection that began before a reload.",
    )
