"""What happens on the server, as values: the one list that feeds logs, statistics, metrics and the policy stream.

Every event of a session carries its id, and none anything that belongs to a stream, so that it may cross a process
boundary.
Strings that came from the peer are as it sent them: whoever prints them escapes them.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeAlias

from attrs import Factory, frozen

from triosmtp.errors import Problem
from triosmtp.variables import TLSInfo

__all__ = [
    "AuthAttempted", "CertificateExpiring", "CertificateReloadFailed", "CertificatesReloaded",
    "ConfigurationReloadFailed", "ConfigurationReloaded", "Connected", "ConnectionRefused", "Disconnected",
    "MessageAccepted", "MessageRefused", "Observer", "PeerAnnounced", "PolicyClientConnected",
    "PolicyClientDisconnected", "PolicyClientRefused", "PolicyFailed", "PolicyFallback", "Refused",
    "RevocationListExpired", "ServerCertificatePresented", "ServerDraining", "ServerEnded", "ServerStarted",
    "SessionEvent", "ShadowDiffered", "TLSEstablished", "TLSFailed",
]  # fmt: skip


@frozen(slots=True)
class Connected:
    """A session began."""

    session: str
    peer: str
    local: str
    listener: str
    variables: Mapping[str, str] = Factory(dict)
    """The connection context that it begins with."""


@frozen(slots=True)
class PeerAnnounced:
    """A trusted peer said for whom it speaks: the session is that one's from now on."""

    session: str
    peer: str
    """The one that it speaks for."""
    listener: str
    real_peer: str
    """Itself."""
    by: str
    """``XCLIENT`` or ``XREMOTEIP``."""


@frozen(slots=True)
class ConnectionRefused:
    """A connection was turned away; ``reason`` names the option of the limit that it reached, or that it did not obey.

    At a limit of sessions it was answered 421 and had no session; at one of handshakes, under Use_SSL, it was closed.
    """

    peer: str
    listener: str
    reason: str


@frozen(slots=True)
class TLSEstablished:
    """A handshake was completed, whatever became of the client's certificate."""

    session: str
    peer: str
    listener: str
    tls: TLSInfo


@frozen(slots=True)
class ServerCertificatePresented:
    """A client presented a certificate that verifies for the purpose of a TLS server, and not for that of a client.

    ``tls.verified`` is what TLS_Client_Purpose made of it: False is a client that ``client-or-server`` would let in.
    It comes behind :class:`TLSEstablished`; ``session`` is ``""`` for a policy client.
    """

    session: str
    peer: str
    listener: str
    tls: TLSInfo


@frozen(slots=True)
class TLSFailed:
    """A handshake came to nothing, or never began because plaintext stood behind STARTTLS.

    ``reason`` is one of the fixed list of :class:`triosmtp.HandshakeError`; ``detail`` says more, such as the name of
    the peer's alert.
    """

    session: str
    peer: str
    listener: str
    reason: str
    detail: str


@frozen(slots=True)
class Refused:
    """A command was answered with a refusal: a soft error of the protocol, or a decision.

    ``decided_by`` is ``protocol``, ``relay``, ``limit``, ``reload``, the option of a rule such as ``TLS_Verify_Mode``,
    ``python:Name`` or ``websocket:group``, for a
    message also ``spool`` or ``delivery``; ``reason`` is for the log.
    """

    session: str
    peer: str
    phase: str
    """A policy phase, or ``command`` for what belongs to none."""
    code: int
    enhanced: str | None
    text: str
    decided_by: str
    reason: str
    local: str = ""
    listener: str = ""
    variables: Mapping[str, str] = Factory(dict)
    message_variables: Mapping[str, str] = Factory(dict)
    sender: str | None = None
    """The sender of the message under way, or the one that was refused; ``""`` is the null sender, None that there is
    none."""
    recipients: tuple[str, ...] = ()
    """The recipient that was refused; of a refusal at DATA or BDAT those of the message."""


@frozen(slots=True, kw_only=True)
class AuthAttempted:
    """An exchange of AUTH came to its end.  A password is never part of it."""

    session: str
    peer: str
    listener: str
    mechanism: str
    """As registered: ``PLAIN``, ``SCRAM-SHA-256``, …"""
    user: str
    """What the client claimed; ``""`` where it came to no claim."""
    succeeded: bool
    """Whether the client has authenticated."""
    reason: str = ""
    """Why it failed, for the log; the client is not told."""
    decided_by: str = ""
    logged: bool = True
    """Whether log_authentication asks for a line of acctlog."""


@frozen(slots=True)
class PolicyFailed:
    """A policy raised something that is not a refusal; its traceback is in the log of ``triosmtp.policy``."""

    session: str
    phase: str
    """The policy phase."""
    policy: str
    """The policy's :attr:`triosmtp.Policy.source`."""
    error: str
    """``repr()`` of what it raised."""
    listener: str = ""


@frozen(slots=True, kw_only=True)
class PolicyFallback:
    """Deciders elsewhere gave no answer that could be applied, and the fallback was given in its place."""

    session: str
    phase: str
    """The policy phase."""
    group: str
    """The group of deciders."""
    fallback: str
    """``tempfail``, ``continue`` or ``reject``."""
    failure: str
    """Why: ``timed out after 5 s``, ``no decider``, …"""
    listener: str = ""


@frozen(slots=True, kw_only=True)
class PolicyClientConnected:
    """A policy client has introduced itself."""

    name: str
    """What the client calls itself."""
    group: str
    """Its group, or ``""``."""
    role: str
    """``observer`` or ``decider``."""
    mode: str
    """``enforce`` or ``shadow``."""
    peer: str
    listener: str


@frozen(slots=True, kw_only=True)
class PolicyClientDisconnected:
    """A policy client that had introduced itself is gone."""

    name: str
    """What the client called itself."""
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
    """How long it was connected."""


@frozen(slots=True, kw_only=True)
class PolicyClientRefused:
    """Somebody who wanted to be a policy client was turned away."""

    peer: str
    listener: str
    reason: str


@frozen(slots=True, kw_only=True)
class ShadowDiffered:
    """A decider in shadow would have decided otherwise than it came to be."""

    session: str
    phase: str
    """The policy phase."""
    group: str
    """The group of the decider."""
    name: str
    """What the decider calls itself."""
    answer: str
    """What it would have decided, in a few words."""
    outcome: str
    """What really happened, in a few words."""
    listener: str = ""


@frozen(slots=True, kw_only=True)
class MessageAccepted:
    """A message was delivered: it is where the operator said, and the 250 is on its way.

    Or a policy had it thrown away: then ``discarded_by`` names the policy.
    """

    session: str
    peer: str
    message: str
    sender: str
    recipients: tuple[str, ...]
    size: int
    seconds: float
    """From MAIL to the end of the delivery."""
    tls: TLSInfo | None
    listener: str = ""
    variables: Mapping[str, str] = Factory(dict)
    message_variables: Mapping[str, str] = Factory(dict)
    delivery_seconds: float = 0.0
    """What the delivery took of that."""
    discarded_by: str = ""
    """The policy that had it thrown away; ``""`` where it was delivered."""
    helo: str = ""
    """The name that the client gave in EHLO or HELO; ``""`` if it gave none."""


@frozen(slots=True, kw_only=True)
class MessageRefused:
    """A message was refused after its body had arrived; see :class:`Refused` for ``decided_by``."""

    session: str
    peer: str
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
    local: str = ""
    listener: str = ""
    variables: Mapping[str, str] = Factory(dict)
    message_variables: Mapping[str, str] = Factory(dict)
    helo: str = ""
    """As in :class:`MessageAccepted`."""


@frozen(slots=True)
class Disconnected:
    """A session ended.

    ``reason``: quit, peer_closed, idle, slow, overlong, drain, closed, reconfigured, refused, tls_failed, tls_alert,
    tls_error, protocol_error, cancelled or failed.
    """

    session: str
    peer: str
    reason: str
    seconds: float
    """How long the session lasted."""
    messages: int
    """How many messages it began."""
    commands: Mapping[str, int] = Factory(dict)
    """How often each command was given, by its verb in capitals; what is no command is ``other``."""
    detail: str = ""
    """Of ``tls_alert`` the name of the alert that the peer sent; of ``tls_error`` why OpenSSL refused what came."""
    listener: str = ""


@frozen(slots=True, kw_only=True)
class CertificatesReloaded:
    """New files are in force for new handshakes; told once for each certificate of a context that was made anew."""

    generation: int
    """Counts the swaps since the server began."""
    reason: str
    """Who asked: ``watch`` (the files changed), or what a caller named itself, such as ``SIGHUP``."""
    file: str
    """Where the certificate lies."""
    changed: tuple[str, ...]
    """The files that differ from those that were in force, this one or others (a CA bundle, for example)."""
    subject: str
    """The certificate's subject (RFC 4514)."""
    names: tuple[str, ...]
    """``dns:…``, ``ip:…``, …"""
    fingerprint_sha256: str
    """SHA-256 of the certificate, in lower-case hexadecimal."""
    not_before: datetime | None
    """When it begins to be valid, in UTC; None if it cannot be read."""
    not_after: datetime | None
    """When it ends to be valid, likewise."""
    warnings: tuple[str, ...] = ()
    """What is not as it should be: a name that was lost, for example."""


@frozen(slots=True)
class CertificateReloadFailed:
    """Files that changed cannot be used: what was in force stays so, and they are tried again when they change."""

    file: str
    """``""`` where no file is to blame."""
    option: str
    """The option that names the file."""
    reason: str


@frozen(slots=True)
class CertificateExpiring:
    """A certificate in force ends soon: told once each when 30, 14, 7, 3 and 1 days are left."""

    file: str
    """Where the certificate lies."""
    subject: str
    """The certificate's subject (RFC 4514)."""
    days: int
    """Whole days that are left; below zero: it has expired."""
    not_after: datetime
    """When it ends to be valid, in UTC."""


@frozen(slots=True)
class RevocationListExpired:
    """A list of TLS_Client_CRL in force is past its ``nextUpdate``; told once for each list.

    Its authority vouches for nobody until there is a new one.  What it lists stays revoked.
    """

    file: str
    """Where the list lies."""
    issuer: str
    """The authority that issued the list (RFC 4514)."""
    next_update: datetime
    """When the next list was due, in UTC."""


@frozen(slots=True, kw_only=True)
class ConfigurationReloaded:
    """A new configuration is in force for new connections.  The Listens are told by their names."""

    path: str
    """The configuration's file, as it was named."""
    reason: str
    """Who asked: ``SIGHUP``, ``console``, or what the embedding program calls it."""
    opened: tuple[str, ...]
    """Listens that are new, or were bound anew because their sockets differ."""
    closed: tuple[str, ...]
    """Listens that are no more, or were bound anew."""
    kept: tuple[str, ...]
    """Listens whose sockets, and the connections that wait in them, are the same as before."""
    sessions: int
    """Sessions on the old configuration: each ends at its next MAIL FROM or RSET."""


@frozen(slots=True, kw_only=True)
class ConfigurationReloadFailed:
    """A configuration cannot be used; nothing was changed."""

    path: str
    """The configuration's file, as it was named."""
    reason: str
    problems: tuple[Problem, ...]
    """Every error, with its place in the configuration."""


@frozen(slots=True, kw_only=True)
class ServerStarted:
    """``triosmtp serve`` serves: every socket listens, and signals are handled."""

    version: str
    """That of triosmtp."""
    process: int
    """The number of the process."""
    path: str
    """Of the configuration."""
    listeners: tuple[str, ...]
    """The Listens for mail, each with the address that it is bound to."""
    workers: int
    """How many processes serve sessions."""


@frozen(slots=True, kw_only=True)
class ServerDraining:
    """``triosmtp serve`` accepts no more connections, and finishes the messages under way."""

    sessions: int
    """Sessions under way."""
    grace: float
    """Seconds that they have: Drain_Timeout."""


@frozen(slots=True, kw_only=True)
class ServerEnded:
    """``triosmtp serve`` has ended its last session."""

    reason: str
    """``drained``; ``stopped``, if a second signal cut the drain short; or ``failed``."""
    seconds: float
    """Since :class:`ServerStarted`."""
    sessions: int
    """Sessions since then."""
    messages: int
    """Messages that were accepted since then."""


SessionEvent: TypeAlias = (
    AuthAttempted | CertificateExpiring | CertificateReloadFailed | CertificatesReloaded | ConfigurationReloadFailed |
    ConfigurationReloaded | RevocationListExpired |
    PolicyClientConnected | PolicyClientDisconnected | PolicyClientRefused | PolicyFallback | ShadowDiffered |
    Connected | PeerAnnounced | ConnectionRefused | TLSEstablished | ServerCertificatePresented | TLSFailed |
    Refused | PolicyFailed | MessageAccepted | MessageRefused | Disconnected |
    ServerStarted | ServerDraining | ServerEnded
)  # fmt: skip

Observer: TypeAlias = Callable[[SessionEvent], None]
"""Called with each event, on the event loop: quick, and never blocking."""
