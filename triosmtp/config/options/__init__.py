"""The one option table: every option with its name, type, default, scopes and a sentence that documents it.

:class:`Settings` is the table.  Each field is an option, its metadata an :class:`Option`; checks, ``config options``,
``config eval`` and the reference page all read it here.  A field's name is the option's name in lower case.  The
modules beside this one hold the rows, by what they are about.
"""

from collections.abc import Mapping
from typing import Any

import attrs
from attrs import frozen

from triosmtp.config.option import Option
from triosmtp.config.options.auth import AuthOptions
from triosmtp.config.options.dialogue import DialogueOptions
from triosmtp.config.options.life import LifeOptions
from triosmtp.config.options.limit import LimitOptions
from triosmtp.config.options.log import LogOptions
from triosmtp.config.options.peer import PeerOptions
from triosmtp.config.options.policy import PolicyOptions
from triosmtp.config.options.process import ProcessOptions
from triosmtp.config.options.relay import RelayOptions
from triosmtp.config.options.socket import SocketOptions
from triosmtp.config.options.status import StatusOptions
from triosmtp.config.options.tls import TLSOptions
from triosmtp.config.source import Place
from triosmtp.config.types.server_name import ServerName
from triosmtp.errors import Position, Problem

__all__ = ["OPTIONS", "Option", "Settings", "problem_at"]


@frozen(slots=False, kw_only=True)
class Settings(
    AuthOptions,
    ProcessOptions,
    LifeOptions,
    LogOptions,
    PeerOptions,
    PolicyOptions,
    RelayOptions,
    LimitOptions,
    DialogueOptions,
    TLSOptions,
    StatusOptions,
    SocketOptions,
):
    """The value of every option, as it is in force for one connection.  A value: swapped whole, never changed."""

    places: Mapping[str, Place] = attrs.field(factory=dict, eq=False, repr=False)
    """Field name to where the value in force was set; what is missing is at its default."""

    @property
    def origins(self) -> dict[str, Position]:
        """Field name to the position where the value in force was set; what is missing is at its default."""
        return {name: place.position for name, place in self.places.items()}

    @property
    def offers_starttls(self) -> bool:
        """Whether STARTTLS is offered: asked for, with a certificate in force, and TLS not on from the first byte."""
        return "STARTTLS" in self.smtp_extensions and bool(self.tls_certificate) and not self.use_ssl

    @property
    def demands_verified(self) -> bool:
        """Whether some mail is taken of clients with a verified or listed certificate alone."""
        return self.tls_require_verified or bool(self.tls_require_verified_from)

    @property
    def asks_by_fingerprint(self) -> bool:
        """Whether a client may do something by a fingerprint: a certificate is then asked for without TLS_Client_CA."""
        wanted = self.tls_verified_peer_can_relay or self.demands_verified
        return wanted and any(each.by_fingerprint for each in self.tls_relay_clients)


def _rows() -> dict[str, Option]:
    fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(Settings)
    return {field.name: field.metadata["option"] for field in fields if "option" in field.metadata}


OPTIONS: Mapping[str, Option] = _rows()
"""The table, by field name."""


def problem_at(settings: Settings | ServerName, field: str, message: str, severity: str = "error") -> Problem:
    """Give a problem with the value of ``field`` that stands where the value was set, if it is not the default."""
    place = settings.places.get(field)
    name = OPTIONS[field].name
    text = message if message.startswith(name) else f"{name}: {message}"
    return Problem(severity, text) if place is None else place.problem(severity, text)
