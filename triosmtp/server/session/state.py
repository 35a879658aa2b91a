"""The state of one session: everything that a handler reads and changes.

There is one :class:`SessionState` for each session.  The handlers of ``handlers.py``, ``auth.py`` and ``xclient.py``
are functions that take it.  It knows no stream: ``driver.py`` owns that.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum

from attrs import define, frozen

from triosmtp.auth import Claim, Exchange
from triosmtp.config import Listen
from triosmtp.policy import Phase, Session
from triosmtp.server.profile import Profile
from triosmtp.server.service import Service
from triosmtp.server.session.restrictions import Restrictions, restrictions_of
from triosmtp.server.session.transaction import Transaction
from triosmtp.smtp import Connection, Hello
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
class Beginning:
    """What was known at the end of policy ``connect``.  It holds whatever the client says later."""

    variables: Mapping[str, str]
    headers: tuple[tuple[str, str], ...]
    discarded_by: str


_NOTHING = Beginning({}, (), "")


@define(slots=True, eq=False)
class SASLState:
    """What ``auth.py`` keeps between two commands."""

    offered: tuple[str, ...] = ()
    """The mechanisms that are offered now."""
    mechanism: str = ""
    """The mechanism of the latest exchange."""
    exchange: Exchange | None = None
    """The current exchange, if the client must answer a challenge."""
    finished: Claim | None = None
    """What was proven in it, if the client must only answer the last challenge with nothing."""
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

    __slots__ = (
        "attention", "beginning", "bindings", "connection", "discarded_by", "generation", "granted_relay", "hello",
        "is_gone", "listen", "messages", "own_peer", "own_rights", "profile", "recipients", "refused_recipients",
        "restrictions", "sasl", "service", "session", "transaction", "transactions", "was_outdated",
    )  # fmt: skip

    profile: Profile
    """The configuration that holds for the peer, in running parts.  :meth:`switch_profile` alone assigns it."""
    restrictions: Mapping[Phase, Restrictions]
    """Those of the profile."""

    def __init__(
        self, service: Service, listen: Listen, profile: Profile, session: Session, is_gone: Callable[[], bool]
    ) -> None:
        self.service = service
        self.listen = listen
        self.generation = service.generation
        self.session = session
        self.connection = Connection(profile.rules)
        self.is_gone = is_gone
        self.bindings: Callable[[str], bytes | None] = no_binding
        """Returns the data of a channel binding by its type, over TLS (RFC 5929, RFC 9266)."""
        self.hello: Hello | None = None
        """The accepted EHLO or HELO."""
        self.transaction: Transaction | None = None
        self.transactions = 0
        """Transactions that were begun; they number the messages."""
        self.messages = 0
        """Bodies that were begun: what Max_Receptions_Per_Connection and connection_message_count count."""
        self.recipients = 0
        """Recipients that were accepted."""
        self.refused_recipients = 0
        """The weight of the recipients that were refused since the last accepted message."""
        self.granted_relay = False
        """Whether ``can_relay`` was set for the sender of the current transaction, and goes with it."""
        self.discarded_by = ""
        """The policy that discards every message of the session, or ``""``."""
        self.beginning = _NOTHING
        self.sasl: SASLState | None = None
        """The state of AUTH; None while no mechanism was offered."""
        self.own_peer = ""
        """The real peer, if it has announced another one (XCLIENT, XREMOTEIP); else ``""``."""
        self.own_rights: frozenset[str] = frozenset()
        """The trusted commands that the real peer may use; it keeps them."""
        self.was_outdated = False
        """Whether a command was refused because the configuration was reloaded."""
        self.attention = service.draining
        """Whether the driver has something rare to do before it reads on."""
        self.profile, self.restrictions = profile, restrictions_of(profile)

    def switch_profile(self, profile: Profile) -> None:
        """Apply the profile of another peer from now on."""
        self.profile, self.restrictions = profile, restrictions_of(profile)
        self.attention = True

    def discard(self, source: str) -> None:
        """Discard the current message, as the policy ``source`` demands; if there is none, every later message."""
        if self.transaction is not None:
            self.transaction.discarded_by = source
        else:
            self.discarded_by = source

    def grant_relay(self) -> None:
        """Set ``can_relay`` if the peer may relay by its address or its certificate."""
        relay, session = self.profile.relay, self.session
        if relay.trusts_host(session.peer_address) or relay.trusts_certificate(session.tls):
            session.variables["can_relay"] = "true"

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
        self.beginning = Beginning(session.variables.snapshot(), tuple(session.headers), self.discarded_by)

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
        counts = {key: value for key, value in variables.items() if key.startswith("connection_")}
        variables.renew()
        variables.record({**self.beginning.variables, **counts})
        variables.forget("ehlo_string", "ehlo_domain", "auth_name", "auth_status", "auth_user")

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


def no_binding(_type: str) -> bytes | None:
    """Return no data of a channel binding: there is no TLS."""
    return None
