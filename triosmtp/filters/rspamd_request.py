"""The header of a request to rspamd's /checkv2: what is known of the client, the envelope and TLS."""

from collections.abc import Iterator, Mapping
from typing import Final

from triosmtp.filters.policyd_attributes import OWN_ATTRIBUTES
from triosmtp.message import Envelope
from triosmtp.policy import Session

__all__ = ["TLS_HEADERS", "request_headers"]

_MAX_VALUE: Final = 1024
"""Characters of one value: one that a peer chose is cut there."""
TLS_HEADERS: Final[Mapping[str, str]] = {
    name: "-".join("TLS" if word == "tls" else word.capitalize() for word in name.split("_")) for name in OWN_ATTRIBUTES
}
"""The fields that rspamd does not know itself, by the variables that they have the values of."""


def request_headers(
    session: Session, envelope: Envelope, message: str, *, hostname: str, settings_id: str
) -> Iterator[tuple[str, str]]:
    """Yield name and value of each field; ``message`` is the id of the message.

    Rules read them with ``task:get_request_header()``.
    """
    yield "From", str(envelope.sender) or "<>"
    for recipient in envelope.recipients:
        yield "Rcpt", str(recipient)
    yield "Queue-ID", message
    yield "MTA-Name", hostname
    yield "MTA-Tag", "triosmtp"
    if settings_id:
        yield "Settings-ID", settings_id
    yield from _of_client(session)
    tls = session.tls
    if tls is not None:
        yield "TLS-Version", tls.protocol
        yield "TLS-Cipher", tls.cipher
        if tls.verified and tls.client_issuer:
            yield "TLS-Cert-Issuer", tls.client_issuer[:_MAX_VALUE]
        for variable, name in TLS_HEADERS.items():
            if value := session.variables.get(variable):
                yield name, value[:_MAX_VALUE]


def _of_client(session: Session) -> Iterator[tuple[str, str]]:
    if session.peer_address is not None:
        yield "IP", str(session.peer_address)
    if session.auth is not None:
        yield "User", session.auth.user[:_MAX_VALUE]
    if value := session.variables.get("ehlo_domain"):
        yield "Helo", value[:_MAX_VALUE]
    if (value := session.client_name) != "unknown":
        yield "Hostname", value[:_MAX_VALUE]
