"""triosmtp: a Trio-native SMTP listener whose centre is inbound TLS.

The house, from the top down; imports run downwards only::

    cli          the commands
    daemon/      what `triosmtp serve` adds: checks, logs, signals, the embedded default
    testing/     for your tests: a server on memory streams, a scripted client, certificates
    server/      I/O: listeners, sessions, the one room that joins the rooms below
    policy/      who decides          delivery/  where mail goes          tls/  contexts, handshakes, outcomes
    message      envelope and body    spool      bodies while they arrive       trace     Received
    variables    the contexts         event      what happened
    smtp/        SMTP without I/O     config/    the language of ecelerity.conf
    errors
"""

from typing import TYPE_CHECKING

from triosmtp.lazy_import import lazy_names

if TYPE_CHECKING:
    from triosmtp.config import Config, load_config, parse_config
    from triosmtp.delivery import Delivery, DeliveryError, FunctionDelivery
    from triosmtp.errors import ConfigError, HandshakeError, Position, Problem, Reject, Severity, TrioSMTPError
    from triosmtp.message import Envelope, Message, Recipient
    from triosmtp.message.spool import Body
    from triosmtp.policy import DISCARD, DONE, AuthAttempt, Done, Policy, Session
    from triosmtp.server.server import Server, serve
    from triosmtp.server.statistics import Statistics
    from triosmtp.smtp import Address
    from triosmtp.variables import TLSInfo, Variables

__all__ = [
    "DISCARD",
    "DONE",
    "Address",
    "AuthAttempt",
    "Body",
    "Config",
    "ConfigError",
    "Delivery",
    "DeliveryError",
    "Done",
    "Envelope",
    "FunctionDelivery",
    "HandshakeError",
    "Message",
    "Policy",
    "Position",
    "Problem",
    "Recipient",
    "Reject",
    "Server",
    "Session",
    "Severity",
    "Statistics",
    "TLSInfo",
    "TrioSMTPError",
    "Variables",
    "load_config",
    "parse_config",
    "serve",
]

_MODULES = {
    "triosmtp.config": ("Config", "load_config", "parse_config"),
    "triosmtp.delivery": ("Delivery", "DeliveryError", "FunctionDelivery"),
    "triosmtp.errors": ("ConfigError", "HandshakeError", "Position", "Problem", "Reject", "Severity", "TrioSMTPError"),
    "triosmtp.message": ("Envelope", "Message", "Recipient"),
    "triosmtp.message.spool": ("Body",),
    "triosmtp.policy": ("DISCARD", "DONE", "AuthAttempt", "Done", "Policy", "Session"),
    "triosmtp.server.server": ("Server", "serve"),
    "triosmtp.server.statistics": ("Statistics",),
    "triosmtp.smtp": ("Address",),
    "triosmtp.variables": ("TLSInfo", "Variables"),
}

if not TYPE_CHECKING:  # a type checker would accept any name
    __getattr__ = lazy_names(__name__, _MODULES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
