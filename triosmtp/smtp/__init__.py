"""Sans-io SMTP, the server's side (RFC 5321): bytes in, events out; replies in, bytes out.

The map of the room::

    command.py     the table: states, commands, what follows from a reply; the theory is told there
    argument.py    what stands behind a verb, parsed into events
    authentication.py  the lines of AUTH
    trusted.py     the commands of trusted peers
    proxy.py       the PROXY header, which comes before all that
    parameter.py   the parameters of MAIL and RCPT
    octet.py       which octets a line may hold
    fact.py        what a dialogue has established; what an error of a command is
    address.py     addresses and the path grammar
    body.py        the octets behind DATA and BDAT
    connection.py  Connection: carries the table out over a buffer
    event.py       what a Connection tells its driver
    reply.py       what the driver answers
    settings.py       the settings of a Connection
"""

from triosmtp.domain import domain_key
from triosmtp.smtp.command import COMMANDS, Command, State, Transition
from triosmtp.smtp.connection import Connection
from triosmtp.smtp.connection_settings import ConnectionSettings, LineEnding
from triosmtp.smtp.mail_address import Address, PathError, PathProblem, parse_path
from triosmtp.smtp.parameter import decode_orcpt, decode_xtext
from triosmtp.smtp.protocol_event import (
    NEED_DATA,
    PAUSED,
    Auth,
    AuthResponse,
    BadCommand,
    BodyChunk,
    BodyEnd,
    Chunk,
    ChunkEnd,
    ConnectionEnded,
    Data,
    Event,
    Fatal,
    Hello,
    Help,
    MailFrom,
    Noop,
    Pause,
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
from triosmtp.smtp.trusted_command import TRUSTED_EXTENSIONS

__all__ = [
    "COMMANDS",
    "NEED_DATA",
    "PAUSED",
    "TRUSTED_EXTENSIONS",
    "Address",
    "Auth",
    "AuthResponse",
    "BadCommand",
    "BodyChunk",
    "BodyEnd",
    "Chunk",
    "ChunkEnd",
    "Command",
    "Connection",
    "ConnectionEnded",
    "ConnectionSettings",
    "Data",
    "Event",
    "Fatal",
    "Hello",
    "Help",
    "LineEnding",
    "MailFrom",
    "Noop",
    "PathError",
    "PathProblem",
    "Pause",
    "Quit",
    "RcptTo",
    "Reply",
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
