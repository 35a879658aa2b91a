"""triosmtp: a Trio-native SMTP listener whose centre is inbound TLS.

The packages and modules, from the top down; imports run downwards only::

    __main__.py     python -m triosmtp              pytest_plugin.py  a server as a fixture of pytest
    cli.py          the arguments of all commands
    commands/       commands that run in a process of their own: check, tls, probe, passwd, policy, top, examples
    daemon/         `triosmtp serve`: start, reload, signals, systemd, privileges, the embedded default
    workers/        supervisor and worker processes
    control/        the control socket and the console
    status/         metrics and the status page
    testing/        for tests: servers, a scripted client, certificates, a recording policy
    server/         from a configuration to sessions; server/session/ is one SMTP session
    policy_client/  the client library of the policy service
    filters/        clients of filters of other mail servers
    client_checks/  the client's name, lists in the DNS, greylisting
    lua/            policy scripts of Momentum, in Lua
    http_delivery/  hand-off of accepted mail to an application by HTTP
    next_hop/       pass-through of accepted mail to other servers by SMTP and LMTP
    jetstream/      NATS: mail published to a stream, and events
    policy_service/ the hub between sessions and the policy clients of other processes
    policy/         policies in Python              delivery/   the destinations of accepted mail
    tls/            contexts, handshakes, outcomes  auth/       SASL and stored credentials
    limits/         limits on what peers use        logs/       events as lines
    sockets/        listening sockets, streams      recipients/ the recipients that exist
    x509/           certificates and keys           http_client/  HTTP requests to other servers
    message/        envelope, spooled body, header fields that the server adds
    observer.py     the observers of events         event.py    every event as a value
    histogram.py    latencies and sizes, counted    variables.py  connection and message context, TLSInfo
    dns_client.py   look-ups in the DNS             filesystem.py   the state folder
    module_loader.py   imports what Policy and Deliver_To name
    session_info.py the session of an event         version.py  versions of the libraries
    config/         the language of ecelerity.conf  smtp/       SMTP without I/O
    domain.py       the form in which domains are compared
    errors.py       exceptions                      lazy_import.py  what is imported at its first use
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
