"""The state of one session: everything that a handler reads and changes.

There is one :class:`SessionState` for each session.  The handlers of ``handlers.py``, ``auth.py`` and ``xclient.py``
are functions that take it.  It knows no stream: ``driver.py`` owns that.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final
from weakref import ref

from attrs import define, frozen

from triosmtp.auth import Claim, Exchange
from triosmtp.config import Listen
from triosmtp.policy import Phase, Session
from triosmtp.server.auth_service import AuthRequest
from triosmtp.server.profile import Profile
from triosmtp.server.service import Service
from triosmtp.server.session.restrictions import Restrictions, restrictions_of
from triosmtp.server.session.transaction import Transaction
from triosmtp.smtp import CapabilityChanges, Connection, Hello
from triosmtp.variables import POSTFIX_ALIASES

__all__ = ["SASLState", "SessionEnd", "SessionState"]


class SessionEnd(StrEnum):
    """Why a session ended: the reason of :class:`~triosmtp.event.Disconnected`."""

    QUIT = "quit"
    PEER_CLOSED = "peer_closed"
    IDLE = "idle"
    SLOW = "slow"
    MAX_SESSION_TIME = "max_session_time"
    DRAIN = "drain"
    CLOSED = "closed"
    RECONFIGURED = "reconfigured"
    REFUSED = "refused"
    TLS_FAILED = "tls_failed"
    TLS_ALERT = "tls_alert"
    TLS_ERROR = "tls_error"
    PROTOCOL_ERROR = "protocol_error"
    CANCELLED = "cancelled"
    FAILED = "failed"


@frozen(slots=True)
class ConnectSnapshot:
    """The contexts at the end of policy ``connect``.  They do not depend on later words of the client."""

    variables: Mapping[str, str]
    headers: tuple[tuple[str, str], ...]
    discarded_by: str
    capabilities: CapabilityChanges | None = None


_PHASES_OF_CONNECTION: Final[frozenset[Phase]] = frozenset({"connect", "ehlo", "starttls", "auth"})
_NOTHING = ConnectSnapshot({}, (), "")
_OF_CLIENT: Final = ("ehlo_string", "ehlo_domain", "auth_name", "auth_status", "auth_user")
"""Variables with what the client said of itself."""


@define(slots=True, eq=False)
class SASLState:
    """The state of AUTH between two commands, for ``auth.py``."""

    offered: tuple[str, ...] = ()
    """The mechanisms that are offered now."""
    mechanism: str = ""
    """The mechanism of the latest exchange."""
    exchange: Exchange | None = None
    """The current exchange, if the client must answer a challenge."""
    request: AuthRequest | None = None
    """The current exchange as a request to the Auth_Service."""
    finished: Claim | None = None
    """The proven claim, if the client must still answer the last challenge with an empty line."""
    looked_up: str | None = None
    """The user of an unfinished exchange, as soon as that user was looked up."""
    failures: int = 0
    """Failures of this client."""
    failed: bool = False
    """Whether the current step was a failure that counts for the peer's address."""


class SessionState:
    """The state of one session.

    ``is_gone`` tells whether the client has disconnected.
    """

    # Without __slots__: most sessions change few of these defaults.
    profile: Profile
    """The configuration that holds for the peer, in running parts.  :meth:`switch_profile` alone changes it."""
    restrictions: Mapping[Phase, Restrictions]
    """Those of the profile."""
    hello: Hello | None = None
    """The accepted EHLO or HELO."""
    transaction: Transaction | None = None
    messages = 0
    """Bodies that were begun: what Max_Receptions_Per_Connection and connection_message_count count."""
    recipients = 0
    """Recipients that were accepted."""
    refused_recipients = 0
    """The weight of the recipients that were refused since the last accepted message."""
    granted_relay = False
    """Whether ``can_relay`` was set for the sender of the current transaction, and goes with it."""
    discarded_by = ""
    """The policy that discards every message of the session, or ``""``."""
    beginning = _NOTHING
    sasl: SASLState | None = None
    """The state of AUTH; None while no mechanism was offered."""
    bindings: Callable[[str], bytes | None] | None = None
    """Returns the data of a channel binding by its type (RFC 5929, RFC 9266); None without TLS."""
    own_peer = ""
    """The real peer, if it has announced another one (XCLIENT, XREMOTEIP); else ``""``."""
    own_rights: frozenset[str] = frozenset()
    """The trusted commands that the real peer may use; it keeps them."""
    admitted_handshake = False
    """Whether a handshake may be counted, which the driver has to count out."""
    refusal_closes = False
    """Whether the refusal of a handshake ends the connection with the reply to the next command."""
    was_outdated = False
    """Whether a command was refused because the configuration was reloaded."""

    def __init__(
        self, service: Service, listen: Listen, profile: Profile, session: Session, is_gone: Callable[[], bool]
    ) -> None:
        self.service = service
        self.listen = listen
        self.generation = service.generation
        self.session = session
        profile = profile.current()
        self.connection = Connection(profile.rules)
        self.is_gone = is_gone
        self.attention = service.draining
        """Whether the driver has something rare to do before it reads on."""
        self.profile, self.restrictions = profile, restrictions_of(profile)

    def leaving_check(self) -> Callable[[], bool]:
        """Return what tells whether the session is about to end; it does not keep the session."""
        reference = ref(self)

        def is_leaving() -> bool:
            state = reference()
            return state is None or state.is_gone() or state.service.draining

        return is_leaving

    def switch_profile(self, profile: Profile) -> None:
        """Apply the profile of another peer from now on."""
        self.profile, self.restrictions = profile, restrictions_of(profile)
        self.attention = True

    def apply_capabilities(self) -> None:
        """Offer what policies have left of the extensions, and what they have added."""
        changes, rules = self.session.capabilities, self.profile.rules
        self.connection.change_capabilities(rules if changes is None else changes.applied(rules))

    def discard(self, source: str, phase: Phase) -> None:
        """Discard the current message, as the policy ``source`` demands.

        ``phase`` is where it did.  A phase of the connection is about every later message, too: EHLO and a
        renegotiation may come while a message is under way.
        """
        if self.transaction is not None:
            self.transaction.discarded_by = source
        if phase in _PHASES_OF_CONNECTION:
            self.discarded_by = source

    def grant_relay(self) -> None:
        """Set ``can_relay`` if the peer may relay by its address or its certificate."""
        relay, session = self.profile.relay, self.session
        if relay.trusts_host(session.peer_address) or relay.trusts_certificate(session.tls):
            session.variables["can_relay"] = "true"

    def begin_message(self) -> None:
        """Forget what is left of the message before."""
        session = self.session
        if self.transaction is not None or session.in_transaction:
            self.end_transaction()
        else:
            session.message_variables.renew()  # a policy may have written some

    def end_transaction(self) -> None:
        """Forget the current message, if there is one."""
        session, transaction = self.session, self.transaction
        session.message_variables.renew()
        if session.message_headers:
            session.message_headers.clear()
        session.in_transaction = False
        if transaction is not None:
            if self.granted_relay:
                session.variables.forget("can_relay")
                self.granted_relay = False
            transaction.close()
            self.transaction = session.envelope = None

    def remember_beginning(self) -> None:
        """Keep what is known now, for :meth:`forget_plaintext` and :meth:`forget_handshake`."""
        session = self.session
        if self.profile.tls is None and session.connection_tls is None:
            self.beginning = _NOTHING  # there is no TLS that could come
        else:
            self.beginning = ConnectSnapshot(
                session.variables.snapshot(), tuple(session.headers), self.discarded_by, session.capabilities
            )

    def forget_plaintext(self) -> None:
        """Forget what was learnt before TLS (RFC 3207, section 4.2): anybody in between may have said it.

        What policy wrote since ``connect`` goes, too: it may follow from that.
        """
        session, variables = self.session, self.session.variables
        self.end_transaction()
        self.hello = None
        self.discarded_by = self.beginning.discarded_by
        session.auth = None
        session.headers[:] = self.beginning.headers
        if session.capabilities is not self.beginning.capabilities:
            session.capabilities = self.beginning.capabilities
            self.apply_capabilities()
        kept = dict(self.beginning.variables)
        kept.update(pair for pair in variables.snapshot().items() if pair[0].startswith("connection_"))
        variables.renew()
        variables.record({key: value for key, value in kept.items() if not key.startswith(_OF_CLIENT)})

    def forget_handshake(self) -> None:
        """Forget what a handshake established, and the rights that came of it: the client has renegotiated."""
        variables, auth = self.session.variables, self.session.auth
        variables.forget("can_relay", "tls_", *POSTFIX_ALIASES)
        if auth is not None:
            if auth.mechanism == "EXTERNAL":  # it was the certificate's
                self.session.auth = None
                variables.forget("auth_name", "auth_status", "auth_user")
            else:
                variables["can_relay"] = "true"
        # What holds without a word of the client stays: its address, and what policy found at connect.
        if "can_relay" in self.beginning.variables:
            variables["can_relay"] = self.beginning.variables["can_relay"]
