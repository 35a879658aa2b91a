"""The events of the server: frozen values that feed logs, statistics, metrics and the notifications of policy clients.

A new event also needs an entry in ``logs/event_fields.py``.  It may need others in ``logs/repeat_filter.py``,
``status/metrics.py`` and ``policy_service/event_notification.py``.  See "A new event" in CONTRIBUTING.md.

All are made with keywords.  Every event of a session has the attribute ``session``, one :class:`SessionInfo` that the
events of that session share.  No event holds anything that belongs to a stream, so each can cross a process boundary.

Strings that came from the peer are as the peer sent them: code that prints them must escape them.

The classes have no ``__slots__``: without them, ``attrs`` makes a frozen value with half the work.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, TypeAlias

from attrs import Factory, frozen

from triosmtp.errors import Problem
from triosmtp.session_info import SessionInfo
from triosmtp.variables import TLSInfo

__all__ = [
    "AuthAttempted", "CertificateExpiring", "CertificateReloadFailed", "CertificatesReloaded",
    "ConfigurationReloadFailed", "ConfigurationReloaded", "Connected", "ConnectionRefused", "Disconnected",
    "LimitsStoreChanged", "MessageAccepted", "MessageRefused", "Observer", "PeerAnnounced", "PolicyClientConnected",
    "PolicyClientDisconnected", "PolicyClientRefused", "PolicyFailed", "PolicyFallback", "Refused",
    "RevocationListExpired", "ServerCertificatePresented", "ServerDraining", "ServerEnded", "ServerEvent",
    "ServerStarted", "SessionInfo", "ShadowDiffered", "TLSEstablished", "TLSFailed", "TargetChanged",
]  # fmt: skip


_NO_VARIABLES: Final[Mapping[str, str]] = {}


@frozen(slots=False, kw_only=True)
class Connected:
    """A session began."""

    session: SessionInfo
    variables: Mapping[str, str] = _NO_VARIABLES
    """The connection context at the beginning of the session."""


@frozen(slots=False, kw_only=True)
class PeerAnnounced:
    """A trusted peer announced another client: the session is that client's from now on, and so is ``session``."""

    session: SessionInfo
    real_peer: str
    """The trusted peer itself."""
    by: str
    """``XCLIENT`` or ``XREMOTEIP``."""


@frozen(slots=False, kw_only=True)
class ConnectionRefused:
    """A connection was refused; ``reason`` is the name of the option whose limit it reached or whose rule it broke.

    A limit of sessions is answered 421, and there is no session.  At a limit of handshakes under Use_SSL, the
    connection is closed.
    """

    peer: str
    listener: str
    reason: str


@frozen(slots=False, kw_only=True)
class TLSEstablished:
    """A TLS handshake was completed, with or without a verified client certificate."""

    session: SessionInfo
    tls: TLSInfo


@frozen(slots=False, kw_only=True)
class ServerCertificatePresented:
    """A client presented a certificate that verifies for the purpose of a TLS server, but not for that of a client.

    ``tls.verified`` is the result under TLS_Client_Purpose.  If it is False, ``client-or-server`` would admit the
    client.  The event follows :class:`TLSEstablished`.  For a policy client, ``session.id`` is ``""``.
    """

    session: SessionInfo
    tls: TLSInfo


@frozen(slots=False, kw_only=True)
class TLSFailed:
    """A TLS handshake failed, or did not begin because plaintext followed STARTTLS.

    ``reason`` is one of the fixed list of :class:`triosmtp.HandshakeError`; ``detail`` is more precise: the name of
    the peer's alert, for example.
    """

    session: SessionInfo
    reason: str
    detail: str


@frozen(slots=False, kw_only=True)
class Refused:
    """A command was refused, by the protocol or by a decision.

    ``decided_by`` is ``protocol``, ``relay``, ``limit``, ``reload``, the option of a rule such as ``TLS_Verify_Mode``,
    ``python:Name`` or ``websocket:group``; of a message also ``spool`` or ``delivery``.  ``reason`` is for the log.
    """

    session: SessionInfo
    phase: str
    """A policy phase, or ``command`` for a command that has none."""
    code: int
    enhanced: str | None
    text: str
    decided_by: str
    reason: str
    variables: Mapping[str, str] = _NO_VARIABLES
    message_variables: Mapping[str, str] = _NO_VARIABLES
    sender: str | None = None
    """The sender of the message under way, or the sender that was refused.  ``""`` is the null sender; None: there is
    no sender."""
    recipients: tuple[str, ...] = ()
    """The recipient that was refused; at DATA or BDAT all recipients of the message."""


@frozen(slots=False, kw_only=True)
class AuthAttempted:
    """An AUTH exchange ended.  The event never holds a password."""

    session: SessionInfo
    mechanism: str
    """As registered: ``PLAIN``, ``SCRAM-SHA-256``, …"""
    user: str
    """The user that the client claimed to be; ``""`` if it named none."""
    succeeded: bool
    """Whether the client has authenticated."""
    reason: str = ""
    """Why it failed, for the log; it is not sent to the client."""
    decided_by: str = ""
    logged: bool = True
    """Whether log_authentication asks for a line of acctlog."""


@frozen(slots=False, kw_only=True)
class PolicyFailed:
    """A policy raised an exception other than ``Reject``; the logger ``triosmtp.policy`` has the traceback."""

    session: SessionInfo
    phase: str
    """The policy phase."""
    policy: str
    """The policy's :attr:`triosmtp.Policy.source`."""
    error: str
    """``repr()`` of the exception."""


@frozen(slots=False, kw_only=True)
class PolicyFallback:
    """No policy client of a group, or a filter, gave an answer that could be applied, so the fallback was applied."""

    session: SessionInfo
    phase: str
    """The policy phase."""
    group: str
    """The group of the policy clients, or the filter as Policy names it."""
    fallback: str
    """``tempfail``, ``continue`` or ``reject``."""
    failure: str
    """The cause: ``timed out after 5 s``, ``no decider``, …"""


@frozen(slots=False, kw_only=True)
class PolicyClientConnected:
    """A policy client connected and sent ``initialize``."""

    name: str
    """The name that the client gave."""
    group: str
    """Its group, or ``""``."""
    role: str
    """``observer`` or ``decider``."""
    mode: str
    """``enforce`` or ``shadow``."""
    peer: str
    listener: str


@frozen(slots=False, kw_only=True)
class PolicyClientDisconnected:
    """A policy client of which :class:`PolicyClientConnected` told disconnected."""

    name: str
    """The name that the client gave."""
    group: str
    """Its group, or ``""``."""
    role: str
    """``observer`` or ``decider``."""
    mode: str
    """``enforce`` or ``shadow``."""
    peer: str
    listener: str
    reason: str
    seconds: float
    """How long the client was connected."""


@frozen(slots=False, kw_only=True)
class PolicyClientRefused:
    """A connection of a policy client was refused."""

    peer: str
    listener: str
    reason: str


@frozen(slots=False, kw_only=True)
class ShadowDiffered:
    """A policy client in shadow mode would have decided otherwise than the server did."""

    session: SessionInfo
    phase: str
    """The policy phase."""
    group: str
    """The group of the policy client."""
    name: str
    """The name that the policy client gave."""
    answer: str
    """The decision of the policy client, in a few words."""
    outcome: str
    """The outcome of the phase, in a few words."""


@frozen(slots=False, kw_only=True)
class MessageAccepted:
    """A message was delivered and is answered 250; or a policy discarded it, and ``discarded_by`` names the policy."""

    session: SessionInfo
    message: str
    sender: str
    recipients: tuple[str, ...]
    size: int
    seconds: float
    """From MAIL to the end of the delivery."""
    tls: TLSInfo | None
    variables: Mapping[str, str] = _NO_VARIABLES
    message_variables: Mapping[str, str] = _NO_VARIABLES
    delivery_seconds: float = 0.0
    """The time that the delivery took."""
    discarded_by: str = ""
    """The policy that discarded the message; ``""`` if it was delivered."""
    helo: str = ""
    """The name that the client gave in EHLO or HELO; ``""`` if it gave none."""
    answers: tuple[str, ...] = ()
    """The answers of targets to the message, as far as they gave any: ``target: answer``, in one printable line each.

    ``target: recipient, …: answer`` if a target answered differently for its recipients.
    """


@frozen(slots=False, kw_only=True)
class MessageRefused:
    """A message was refused after its body was received; see :class:`Refused` for ``decided_by``."""

    session: SessionInfo
    message: str
    sender: str
    recipients: tuple[str, ...]
    size: int
    code: int
    enhanced: str | None
    text: str
    decided_by: str
    reason: str
    tls: TLSInfo | None
    seconds: float = 0.0
    """From MAIL to the refusal."""
    variables: Mapping[str, str] = _NO_VARIABLES
    message_variables: Mapping[str, str] = _NO_VARIABLES
    helo: str = ""
    """As in :class:`MessageAccepted`."""
    answers: tuple[str, ...] = ()
    """As in :class:`MessageAccepted`; none if there is only one, which ``reason`` has."""


@frozen(slots=False, kw_only=True)
class Disconnected:
    """A session ended.

    ``reason``: quit, peer_closed, idle, slow, max_session_time, drain, closed, reconfigured, refused, tls_failed,
    tls_alert, tls_error, protocol_error, cancelled or failed.
    """

    session: SessionInfo
    reason: str
    seconds: float
    """How long the session lasted."""
    messages: int
    """How many messages the session began."""
    commands: Mapping[str, int] = Factory(dict)
    """How often each command came, by its verb in capitals; ``other`` counts what is no command."""
    detail: str = ""
    """For ``tls_alert`` the name of the alert that the peer sent; for ``tls_error`` the reason of OpenSSL."""


@frozen(slots=False, kw_only=True)
class CertificatesReloaded:
    """New TLS files are in force for new handshakes.  There is one event for each certificate of a new context."""

    generation: int
    """The number of this reload since the server started."""
    reason: str
    """The cause of the reload: ``watch`` (the files changed), or the name that the caller gave, such as ``SIGHUP``."""
    file: str
    """The path of the certificate."""
    changed: tuple[str, ...]
    """The files that differ from those before: this one or others (a CA bundle, for example)."""
    subject: str
    """The certificate's subject (RFC 4514)."""
    names: tuple[str, ...]
    """``dns:…``, ``ip:…``, …"""
    fingerprint_sha256: str
    """SHA-256 of the certificate, in lower-case hexadecimal."""
    not_before: datetime | None
    """The beginning of its validity, in UTC; None if it cannot be read."""
    not_after: datetime | None
    """The end of its validity, in UTC; None if it cannot be read."""
    warnings: tuple[str, ...] = ()
    """Problems that do not prevent its use: a name that the certificate no longer has, for example."""


@frozen(slots=False, kw_only=True)
class CertificateReloadFailed:
    """Changed TLS files cannot be used.  Those before stay in force, and the files are read again when they change."""

    file: str
    """``""`` if the cause is not a file."""
    option: str
    """The option that names the file."""
    reason: str


@frozen(slots=False, kw_only=True)
class CertificateExpiring:
    """A certificate in force expires soon.  There is one event each when 30, 14, 7, 3 and 1 days are left."""

    file: str
    """The path of the certificate."""
    subject: str
    """The certificate's subject (RFC 4514)."""
    days: int
    """Whole days that are left; below zero: the certificate has expired."""
    not_after: datetime
    """The end of its validity, in UTC."""


@frozen(slots=False, kw_only=True)
class RevocationListExpired:
    """A revocation list of TLS_Client_CRL in force is past its ``nextUpdate``.  There is one event for each list.

    No certificate of its authority verifies until there is a new list.  Certificates in the list stay revoked.
    """

    file: str
    """The path of the list."""
    issuer: str
    """The authority that issued the list (RFC 4514)."""
    next_update: datetime
    """The time at which the next list was due, in UTC."""


@frozen(slots=False, kw_only=True)
class ConfigurationReloaded:
    """A new configuration is in force for new connections."""

    path: str
    """The file of the configuration, as it was named."""
    reason: str
    """The cause of the reload: ``SIGHUP``, ``console``, or the name that the embedding program gave."""
    opened: tuple[str, ...]
    """The names of Listens that are new, or whose sockets were bound again because they differ."""
    closed: tuple[str, ...]
    """The names of Listens that were removed, or whose sockets were bound again."""
    kept: tuple[str, ...]
    """The names of Listens that kept their sockets, and the connections that wait in them."""
    sessions: int
    """Sessions on the old configuration: each ends at its next MAIL FROM or RSET."""


@frozen(slots=False, kw_only=True)
class ConfigurationReloadFailed:
    """A new configuration cannot be used.  Nothing was changed."""

    path: str
    """The file of the configuration, as it was named."""
    reason: str
    problems: tuple[Problem, ...]
    """Every error, with its position in the configuration."""


@frozen(slots=False, kw_only=True)
class ServerStarted:
    """``triosmtp serve`` is ready: every socket listens, and signals are handled."""

    version: str
    """The version of triosmtp."""
    process: int
    """The process ID."""
    path: str
    """The file of the configuration."""
    listeners: tuple[str, ...]
    """The Listens for mail, each with the address that it is bound to."""
    workers: int
    """The number of processes that serve sessions."""


@frozen(slots=False, kw_only=True)
class ServerDraining:
    """``triosmtp serve`` accepts no more connections, and completes the messages under way."""

    sessions: int
    """Sessions under way."""
    grace: float
    """Seconds until these sessions are ended: Drain_Timeout."""


@frozen(slots=False, kw_only=True)
class ServerEnded:
    """``triosmtp serve`` has ended its last session."""

    reason: str
    """``drained``; ``stopped``, if a second signal cut the drain short; or ``failed``."""
    seconds: float
    """Time since :class:`ServerStarted`."""
    sessions: int
    """Sessions since then."""
    messages: int
    """Messages that were accepted since then."""


@frozen(slots=False, kw_only=True)
class LimitsStoreChanged:
    """The store of Limits_Store does not answer, so that this node counts by itself; or it answers again."""

    store: str
    """The URL of the option."""
    available: bool
    """Whether it answers."""
    reason: str
    """Why it is not available; ``""`` if it is."""


@frozen(slots=False, kw_only=True)
class TargetChanged:
    """A target has failed for longer than its Delivery_Grace, or is available again.

    With workers, each of them finds that out by itself.
    """

    target: str
    """The name of the Delivery, or the address in Deliver_To."""
    available: bool
    """Whether it is available."""
    reason: str
    """Why it is not available; ``""`` if it is."""
    seconds: float
    """For how long it has failed."""


ServerEvent: TypeAlias = (
    AuthAttempted | CertificateExpiring | CertificateReloadFailed | CertificatesReloaded | ConfigurationReloadFailed |
    ConfigurationReloaded | RevocationListExpired |
    PolicyClientConnected | PolicyClientDisconnected | PolicyClientRefused | PolicyFallback | ShadowDiffered |
    Connected | PeerAnnounced | ConnectionRefused | TLSEstablished | ServerCertificatePresented | TLSFailed |
    Refused | PolicyFailed | MessageAccepted | MessageRefused | Disconnected |
    LimitsStoreChanged | TargetChanged | ServerStarted | ServerDraining | ServerEnded
)  # fmt: skip

Observer: TypeAlias = Callable[[ServerEvent], None]
"""Called with each event, on the event loop.  It must be quick, and must not block."""
