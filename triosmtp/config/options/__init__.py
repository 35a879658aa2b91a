"""The one option table: every option with its name, type, default, scopes and a sentence that documents it.

:class:`Settings` is the table.  Each field is an option, its metadata an :class:`Option`; checks, ``config options``,
``config eval`` and the reference page all read it here.  A field's name is the option's name in lower case.

The other modules hold the rows, by subject::

    socket_options.py   listening sockets, the Pathway of a connection
    smtp_options.py     the SMTP dialogue
    tls_options.py      TLS
    auth_options.py     AUTH
    policy_options.py   policy, the spool
    script_options.py   scripts in Lua: scriptlet, script
    delivery_options.py delivery, the Delivery scope
    relay_options.py    relaying, recipients that exist
    client_options.py   the client's name, lists in the DNS, greylisting
    limit_options.py    limits on connections, sessions and messages
    proxy_options.py    trusted proxies
    log_options.py      the Log scope
    status_options.py   metrics and the status page
    worker_options.py   worker processes
    process_options.py  user, privileges, shutdown
    consumer_options.py consumers of a stream
    node_options.py     one server of several: its name, published events
"""

from collections.abc import Mapping
from typing import Any

import attrs
from attrs import frozen

from triosmtp.config.option import Option
from triosmtp.config.options.auth_options import AuthOptions
from triosmtp.config.options.client_options import ClientOptions
from triosmtp.config.options.consumer_options import ConsumerOptions
from triosmtp.config.options.delivery_options import DeliveryOptions
from triosmtp.config.options.limit_options import LimitOptions
from triosmtp.config.options.log_options import LogOptions
from triosmtp.config.options.node_options import NodeOptions
from triosmtp.config.options.policy_options import PolicyOptions
from triosmtp.config.options.process_options import ProcessOptions
from triosmtp.config.options.proxy_options import ProxyOptions
from triosmtp.config.options.relay_options import RelayOptions
from triosmtp.config.options.script_options import ScriptOptions
from triosmtp.config.options.smtp_options import SMTPOptions
from triosmtp.config.options.socket_options import SocketOptions
from triosmtp.config.options.status_options import StatusOptions
from triosmtp.config.options.tls_options import TLSOptions
from triosmtp.config.options.worker_options import WorkerOptions
from triosmtp.config.source import Place
from triosmtp.config.types.server_name import ServerName
from triosmtp.errors import Position, Problem, Severity

__all__ = ["OPTIONS", "Option", "Settings", "problem_at"]


@frozen(slots=False, kw_only=True)
class Settings(
    AuthOptions,
    WorkerOptions,
    ProcessOptions,
    NodeOptions,
    ConsumerOptions,
    LogOptions,
    ProxyOptions,
    DeliveryOptions,
    ScriptOptions,
    PolicyOptions,
    RelayOptions,
    LimitOptions,
    ClientOptions,
    SMTPOptions,
    TLSOptions,
    StatusOptions,
    SocketOptions,
):
    """The value of every option for one connection.  It is replaced as a whole, and never changed."""

    places: Mapping[str, Place] = attrs.field(factory=dict, eq=False, repr=False)
    """Field name to the place that set the value; a field at its default is absent."""

    @property
    def origins(self) -> dict[str, Position]:
        """Field name to the position that set the value; a field at its default is absent."""
        return {name: place.position for name, place in self.places.items()}

    @property
    def offers_starttls(self) -> bool:
        """Whether STARTTLS is offered: it is listed, there is a certificate, and Use_SSL is off."""
        return "STARTTLS" in self.smtp_extensions and bool(self.tls_certificate) and not self.use_ssl

    @property
    def requires_verified_client(self) -> bool:
        """Whether some mail is accepted only from clients with a verified or listed certificate."""
        return self.tls_require_verified or bool(self.tls_require_verified_from)

    @property
    def grants_by_fingerprint(self) -> bool:
        """Whether a fingerprint grants a right: a certificate is then requested without TLS_Client_CA."""
        wanted = self.tls_verified_peer_can_relay or self.requires_verified_client
        return wanted and any(each.by_fingerprint for each in self.tls_relay_clients)


def _rows() -> dict[str, Option]:
    fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(Settings)
    return {field.name: field.metadata["option"] for field in fields if "option" in field.metadata}


OPTIONS: Mapping[str, Option] = _rows()
"""The table, by field name."""


def problem_at(
    settings: Settings | ServerName, field: str, message: str, severity: Severity = Severity.ERROR
) -> Problem:
    """Return a problem with the value of ``field``, at the position that set it if it is not the default."""
    place = settings.places.get(field)
    name = OPTIONS[field].name
    text = message if message.startswith(name) else f"{name}: {message}"
    return Problem(severity, text) if place is None else place.problem(severity, text)
