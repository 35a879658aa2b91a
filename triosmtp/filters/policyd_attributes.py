"""The attributes of a request to a policy service: those of Postfix 3.7 in its order, then those of triosmtp."""

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Final
from weakref import WeakSet

from attrs import frozen

from triosmtp.policy import Phase, Session
from triosmtp.smtp import Address

__all__ = ["OWN_ATTRIBUTES", "POSTFIX_ATTRIBUTES", "PROTOCOL_STATES", "Request", "attributes_of", "request_of"]

PROTOCOL_STATES: Final[Mapping[Phase, str]] = {
    "connect": "CONNECT",
    "ehlo": "EHLO",
    "mailfrom": "MAIL",
    "rcptto": "RCPT",
    "data": "DATA",
    "data_spool": "END-OF-MESSAGE",
}
"""The value of ``protocol_state`` for each phase at which a policy service can be asked."""

_INSTANCE: Final = "filter_instance"
_instances = count(1)
_extended: Final[WeakSet[Session]] = WeakSet()
"""The sessions that were asked about EHLO; STARTTLS removes what the variables say of it."""


@frozen(slots=True)
class Request:
    """One phase of one session, as a service is asked about it."""

    phase: Phase
    session: Session
    sender: Address | None = None
    recipient: Address | None = None
    parameters: Mapping[str, str | None] = {}
    """Those of MAIL."""
    recipients: int = 0
    """The accepted recipients, at DATA and at the end of the message."""
    size: int | None = None
    queue_id: str = ""


def request_of(phase: Phase, session: Session, *arguments: Any) -> Request:
    """Return the request for a phase; ``arguments`` are what a policy gets behind the session."""
    if phase == "mailfrom":
        return Request(phase, session, sender=arguments[0], parameters=arguments[1])
    envelope = session.envelope
    if envelope is None:
        return Request(phase, session)
    sender, parameters = envelope.sender, envelope.parameters
    if phase == "rcptto":
        return Request(phase, session, sender, arguments[0], parameters)
    number = len(envelope.recipients)
    only = envelope.recipients[0].address if number == 1 else None  # Postfix names the recipient of one alone
    if phase == "data_spool":
        message = arguments[0]
        return Request(phase, session, sender, only, parameters, number, message.size, message.id)
    return Request(phase, session, sender, only, parameters, number)


def attributes_of(request: Request) -> list[tuple[str, str]]:
    """Return the attributes of a request; those of triosmtp only if they have a value."""
    get = request.session.variables.get
    attributes = [(name, value(request)) for name, value in POSTFIX_ATTRIBUTES.items()]
    attributes += [(name, text) for name in OWN_ATTRIBUTES if (text := get(name))]
    attributes.append(("triosmtp_listener", request.session.listener))
    return attributes


def _client_address(request: Request) -> str:
    address = request.session.peer_address
    return "unknown" if address is None else str(address)


def _port(endpoint: str) -> str:
    _, colon, port = endpoint.rpartition(":")
    return port if colon and port.isdecimal() else ""


def _server_address(request: Request) -> str:
    local = request.session.local
    return local.rpartition(":")[0].strip("[]") if _port(local) else ""


def _is_extended(request: Request) -> bool:
    return request.session.variables.get("ehlo_string", "")[:4].upper() == "EHLO"


def _protocol(request: Request) -> str:
    """Return ESMTP after EHLO.  A greeting that is asked about does not count yet, but the one before it does."""
    if request.phase != "ehlo":
        return "ESMTP" if _is_extended(request) else "SMTP"
    before = request.session in _extended
    if _is_extended(request):
        _extended.add(request.session)
    else:
        _extended.discard(request.session)
    return "ESMTP" if before else "SMTP"


def _state(request: Request) -> str:
    if request.phase == "ehlo" and not _is_extended(request):
        return "HELO"
    return PROTOCOL_STATES[request.phase]


def _mailbox(address: Address | None) -> str:
    """Return an address without quotes, as Postfix has it."""
    if not address:
        return ""
    return f"{address.local_part}@{address.domain}" if address.domain else address.local_part


def _instance(request: Request) -> str:
    """Return what all requests about one message have in common, and no other request has."""
    session = request.session
    if not session.in_transaction:
        return f"{session.id}.0"
    instance = session.message_variables.get(_INSTANCE)
    if instance is None:
        instance = f"{session.id}.{next(_instances):x}"
        session.message_variables.record({_INSTANCE: instance})
    return instance


def _size(request: Request) -> str:
    if request.size is not None:
        return str(request.size)
    size = request.parameters.get("SIZE") or "0"
    return size if size.isascii() and size.isdecimal() else "0"


def _from_auth(name: str) -> Callable[[Request], str]:
    def value(request: Request) -> str:
        auth = request.session.auth
        return "" if auth is None else str(getattr(auth, name))

    return value


def _sasl_sender(request: Request) -> str:
    """Return the AUTH parameter of MAIL (RFC 4954, section 5)."""
    sender = request.parameters.get("AUTH") or ""
    return "" if sender == "<>" else sender


def _variable(name: str, default: str = "") -> Callable[[Request], str]:
    return lambda request: request.session.variables.get(name, default) or default


POSTFIX_ATTRIBUTES: Final[Mapping[str, Callable[[Request], str]]] = {
    "request": lambda _: "smtpd_access_policy",
    "protocol_state": _state,
    "protocol_name": _protocol,
    "client_address": _client_address,
    "client_name": lambda request: request.session.client_name,
    "client_port": lambda request: _port(request.session.peer),
    "reverse_client_name": lambda request: request.session.reverse_client_name,
    "server_address": _server_address,
    "server_port": lambda request: _port(request.session.local),
    "helo_name": _variable("ehlo_domain"),
    "sender": lambda request: _mailbox(request.sender),
    "recipient": lambda request: _mailbox(request.recipient),
    "recipient_count": lambda request: str(request.recipients),
    "queue_id": lambda request: request.queue_id,
    "instance": _instance,
    "size": _size,
    "etrn_domain": lambda _: "",
    "sasl_method": _from_auth("mechanism"),
    "sasl_username": _from_auth("user"),
    "sasl_sender": _sasl_sender,
    "ccert_subject": _variable("ccert_subject"),
    "ccert_issuer": _variable("ccert_issuer"),
    "ccert_fingerprint": _variable("ccert_fingerprint"),
    "ccert_pubkey_fingerprint": _variable("ccert_pubkey_fingerprint"),
    "encryption_protocol": _variable("encryption_protocol"),
    "encryption_cipher": _variable("encryption_cipher"),
    "encryption_keysize": _variable("encryption_keysize", "0"),
    "policy_context": lambda _: "",
}
"""The attributes of Postfix in the order in which it sends them, and what makes their values."""

OWN_ATTRIBUTES: Final = (
    "tls_client_verified", "tls_client_verify_error", "tls_client_cert_subject", "tls_client_cert_issuer",
    "tls_client_cert_serial", "tls_client_cert_sans", "tls_client_cert_fingerprint_sha256",
    "tls_client_cert_spki_sha256", "tls_client_cert_revoked", "tls_client_cert_not_after", "tls_group", "tls_sni",
)  # fmt: skip
"""Variables that follow, if they are set: Postfix does not know them."""
