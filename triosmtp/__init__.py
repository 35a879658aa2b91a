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

from triosmtp.config import Config, load_config, parse_config
from triosmtp.delivery import Delivery, DeliveryError, FunctionDelivery
from triosmtp.errors import ConfigError, HandshakeError, Position, Problem, Reject, TrioSMTPError
from triosmtp.message import Envelope, Message, Recipient
from triosmtp.policy import DISCARD, DONE, AuthAttempt, Done, Policy, Session
from triosmtp.server import Server, Statistics, serve
from triosmtp.smtp import Address
from triosmtp.spool import Body
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
    "Statistics",
    "TLSInfo",
    "TrioSMTPError",
    "Variables",
    "load_config",
    "parse_config",
    "serve",
]
