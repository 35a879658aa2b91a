"""SMTP without I/O (RFC 5321).  The server's side: bytes in, events out; replies in, bytes out.

The way of a command through this package::

    connection.py      Connection: bytes in, events out                            (the three verbs are explained there)
    line.py              the octets of a command line, and its usual form
    command.py         the table: states, commands, and the transition after each reply    (the theory is there)
    argument.py          the argument of each command → an event, or the reply that refuses it
    mail_address.py        addresses and the path grammar
    parameter.py           the parameters of MAIL and RCPT
    auth_line.py           the lines of AUTH
    trusted_command.py     XCLIENT, XREMOTEIP, XDUMPCONTEXT, XSETCONTEXT
    body.py            the octets after DATA and BDAT → the message
    bdat.py              a BDAT while its octets arrive
    protocol_event.py  the events that a Connection returns to its caller
    responder.py       the half of Connection that replies: reply in, bytes out, transition of the state
    reply.py             a reply and its form on the wire
    fixed_replies.py     the replies to lines that no row of the table accepts
    dialogue_state.py  the results of earlier commands; CommandError
    error_limit.py       the counters that end a dialogue without progress
    connection_settings.py  extensions, limits and checks of a Connection
    capability_changes.py   what a policy adds to the reply to EHLO, or removes

``proxy_header.py`` parses the header of the PROXY protocol, which precedes all of this.

The client's side, also of LMTP (RFC 2033): commands in, bytes out; bytes in, replies out::

    client_connection.py  ClientConnection: which reply answers which command
    client_command.py       commands as a client sends them
    dot_stuffing.py         the message → the octets after DATA
    reply_parser.py         octets → replies
    extensions.py           the reply to EHLO
"""

from typing import TYPE_CHECKING

from triosmtp.lazy_import import lazy_names

if TYPE_CHECKING:
    from triosmtp.domain import domain_key
    from triosmtp.smtp.capability_changes import CapabilityChanges
    from triosmtp.smtp.client_command import CommandLineError
    from triosmtp.smtp.client_connection import ClientConnection
    from triosmtp.smtp.command import COMMANDS, Command, State, Transition
    from triosmtp.smtp.connection import Connection
    from triosmtp.smtp.connection_settings import TRUSTED_EXTENSIONS, ConnectionSettings, LineEnding
    from triosmtp.smtp.dot_stuffing import BodyEncoder
    from triosmtp.smtp.extensions import Extensions
    from triosmtp.smtp.mail_address import Address, PathError, PathProblem, parse_path
    from triosmtp.smtp.parameter import decode_orcpt, decode_xtext
    from triosmtp.smtp.protocol_event import (
        NEED_DATA,
        PAUSED,
        Auth,
        AuthResponse,
        BadCommand,
        Bdat,
        BodyChunk,
        BodyEnd,
        ChunkEnd,
        ConnectionEnded,
        Data,
        Event,
        Hello,
        Help,
        MailFrom,
        Noop,
        Pause,
        ProtocolFailure,
        Quit,
        RcptTo,
        Reset,
        StartTLS,
        SwitchToTLS,
        Verify,
        XClient,
        XDumpContext,
        XRemoteIP,
        XSetContext,
    )
    from triosmtp.smtp.reply import Reply
    from triosmtp.smtp.reply_parser import ReceivedReply, ReplyError, ReplyParser

__all__ = [
    "COMMANDS",
    "NEED_DATA",
    "PAUSED",
    "TRUSTED_EXTENSIONS",
    "Address",
    "Auth",
    "AuthResponse",
    "BadCommand",
    "Bdat",
    "BodyChunk",
    "BodyEncoder",
    "BodyEnd",
    "CapabilityChanges",
    "ChunkEnd",
    "ClientConnection",
    "Command",
    "CommandLineError",
    "Connection",
    "ConnectionEnded",
    "ConnectionSettings",
    "Data",
    "Event",
    "Extensions",
    "Hello",
    "Help",
    "LineEnding",
    "MailFrom",
    "Noop",
    "PathError",
    "PathProblem",
    "Pause",
    "ProtocolFailure",
    "Quit",
    "RcptTo",
    "ReceivedReply",
    "Reply",
    "ReplyError",
    "ReplyParser",
    "Reset",
    "StartTLS",
    "State",
    "SwitchToTLS",
    "Transition",
    "Verify",
    "XClient",
    "XDumpContext",
    "XRemoteIP",
    "XSetContext",
    "decode_orcpt",
    "decode_xtext",
    "domain_key",
    "parse_path",
]  # fmt: skip

_MODULES = {
    "triosmtp.domain": ("domain_key",),
    "triosmtp.smtp.capability_changes": ("CapabilityChanges",),
    "triosmtp.smtp.client_command": ("CommandLineError",),
    "triosmtp.smtp.client_connection": ("ClientConnection",),
    "triosmtp.smtp.dot_stuffing": ("BodyEncoder",),
    "triosmtp.smtp.extensions": ("Extensions",),
    "triosmtp.smtp.reply_parser": ("ReceivedReply", "ReplyError", "ReplyParser"),
    "triosmtp.smtp.command": (
        "COMMANDS",
        "Command",
        "State",
        "Transition",
    ),
    "triosmtp.smtp.connection": ("Connection",),
    "triosmtp.smtp.connection_settings": (
        "TRUSTED_EXTENSIONS",
        "ConnectionSettings",
        "LineEnding",
    ),
    "triosmtp.smtp.mail_address": (
        "Address",
        "PathError",
        "PathProblem",
        "parse_path",
    ),
    "triosmtp.smtp.parameter": (
        "decode_orcpt",
        "decode_xtext",
    ),
    "triosmtp.smtp.protocol_event": (
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
    ),
    "triosmtp.smtp.reply": ("Reply",),
}

if not TYPE_CHECKING:  # a type checker would accept any name
    __getattr__ = lazy_names(__name__, _MODULES)
