"""The macros that a milter gets: Sendmail's names, with the values of Postfix."""

from collections.abc import Callable, Mapping
from typing import Final

from attrs import frozen

from triosmtp.policy import Session
from triosmtp.smtp import Address
from triosmtp.variables import NO_CERTIFICATE
from triosmtp.version import versions

__all__ = ["MACROS", "MacroContext", "port_of"]


@frozen(slots=True)
class MacroContext:
    """The session and the step that the values depend on."""

    session: Session
    hostname: str
    is_local: Callable[[Address], bool]
    """Whether a recipient is in one of our domains."""
    sender: Address | None = None
    recipient: Address | None = None
    sasl_sender: str = ""
    """The parameter AUTH of MAIL."""
    refusal: str = ""
    """Why the recipient is refused, with an enhanced status code before it."""
    message_id: str = ""

    def macro(self, name: str) -> str | None:
        """Return the value of a macro; None if it has none."""
        value = MACROS.get(name[1:-1] if name.startswith("{") and name.endswith("}") else name)
        return None if value is None else value(self)


def port_of(endpoint: str) -> str:
    """Return the port of ``192.0.2.7:25``; ``""`` if there is none."""
    _, colon, port = endpoint.rpartition(":")
    return port if colon and port.isdecimal() else ""


def _address(session: Session) -> str:
    return "unknown" if session.peer_address is None else str(session.peer_address)


def _client_addr(context: MacroContext) -> str:
    address = context.session.peer_address
    return f"IPv6:{address}" if address is not None and address.version == 6 else _address(context.session)


def _peer(context: MacroContext) -> str:
    """Return the name that the address has, the address, and whether the name is not confirmed."""
    session = context.session
    name = session.reverse_client_name
    forged = "" if name.casefold() == session.client_name.casefold() else " (may be forged)"
    return f"{name} [{_address(session)}]{forged}"


def _client_resolve(context: MacroContext) -> str:
    """Return OK, FORGED (the name of the address is that of another), or FAIL, as Sendmail."""
    session = context.session
    if session.client_name != "unknown":
        return "OK"
    return "FAIL" if session.reverse_client_name == "unknown" else "FORGED"


def _daemon_addr(context: MacroContext) -> str | None:
    local = context.session.local
    return local.rpartition(":")[0].strip("[]") if port_of(local) else None


def _tls(name: str) -> Callable[[MacroContext], str | None]:
    """Return a value of the handshake, which a handshake with a proxy has, too."""

    def value(context: MacroContext) -> str | None:
        tls = context.session.tls
        return None if tls is None else str(getattr(tls, name))

    return value


def _certificate(name: str) -> Callable[[MacroContext], str | None]:
    """Return a name of a certificate, which counts only if the certificate is verified."""

    def value(context: MacroContext) -> str | None:
        tls = context.session.tls
        return None if tls is None or not tls.verified else getattr(tls, name)

    return value


def _verify(context: MacroContext) -> str:
    """Return Sendmail's result of the verification: NONE without TLS, NO without a certificate, OK or FAIL."""
    tls = context.session.tls
    if tls is None:
        return "NONE"
    if tls.client_certificate is None or tls.verify_error == NO_CERTIFICATE:
        return "NO"
    return "OK" if tls.verified else "FAIL"


def _auth(name: str) -> Callable[[MacroContext], str | None]:
    def value(context: MacroContext) -> str | None:
        auth = context.session.auth
        return None if auth is None else str(getattr(auth, name))

    return value


def _auth_author(context: MacroContext) -> str | None:
    return None if context.session.auth is None or context.sasl_sender in {"", "<>"} else context.sasl_sender


def _mail_host(context: MacroContext) -> str | None:
    return None if context.sender is None else context.sender.domain or context.hostname


def _rcpt_addr(context: MacroContext) -> str | None:
    if context.refusal:
        return context.refusal.partition(" ")[2]
    return None if context.recipient is None else context.recipient.text


def _rcpt_host(context: MacroContext) -> str | None:
    if context.refusal:
        return context.refusal.partition(" ")[0]
    return None if context.recipient is None else context.recipient.domain or context.hostname


def _rcpt_mailer(context: MacroContext) -> str | None:
    if context.refusal:
        return "error"
    if context.recipient is None:
        return None
    return "relay" if context.is_local(context.recipient) else "smtp"


def _optional(text: str) -> str | None:
    return text or None


MACROS: Final[Mapping[str, Callable[[MacroContext], str | None]]] = {
    "_": _peer,
    "i": lambda context: _optional(context.message_id),
    "j": lambda context: context.hostname,
    "v": lambda _: f"triosmtp {versions()['triosmtp']}",
    "daemon_name": lambda context: context.hostname,
    "daemon_addr": _daemon_addr,
    "daemon_port": lambda context: _optional(port_of(context.session.local)),
    "client_addr": _client_addr,
    "client_name": lambda context: context.session.client_name,
    "client_port": lambda context: _optional(port_of(context.session.peer)),
    "client_ptr": lambda context: context.session.reverse_client_name,
    "client_resolve": _client_resolve,
    "tls_version": _tls("protocol"),
    "cipher": _tls("cipher"),
    "cipher_bits": _tls("cipher_usebits"),
    "cert_subject": _certificate("client_subject_cn"),
    "cert_issuer": _certificate("client_issuer_cn"),
    "verify": _verify,
    "auth_type": _auth("mechanism"),
    "auth_authen": _auth("user"),
    "auth_author": _auth_author,
    "mail_addr": lambda context: None if context.sender is None else context.sender.text,
    "mail_host": _mail_host,
    "mail_mailer": lambda context: None if context.sender is None else "smtp",
    "rcpt_addr": _rcpt_addr,
    "rcpt_host": _rcpt_host,
    "rcpt_mailer": _rcpt_mailer,
}
"""The macros by their names without braces, and what makes their values."""
