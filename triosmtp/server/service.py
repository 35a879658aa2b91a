"""What all sessions of one server share: profiles, TLS contexts, counters, limits, and the way to tell what happens."""

import secrets
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

import trio
from attrs import define, field

from triosmtp.config import Config, Listen, Settings
from triosmtp.event import (
    ConnectionRefused,
    MessageAccepted,
    MessageRefused,
    Observer,
    ServerEvent,
    TLSEstablished,
    TLSFailed,
)
from triosmtp.limits.flight_limiter import FlightLimiter
from triosmtp.limits.handshake_limiter import HandshakeLimiter
from triosmtp.limits.peer_count import PeerAddress, PeerCounts, peer_key
from triosmtp.limits.peer_limiter import PeerLimiter
from triosmtp.limits.spool_space import SpoolSpace
from triosmtp.message.spool import THREADS
from triosmtp.observer import Observers, Subscription
from triosmtp.policy import Session
from triosmtp.policy_service.hub import Hub
from triosmtp.server.profile import Profiles
from triosmtp.smtp import TRUSTED_EXTENSIONS
from triosmtp.tls import ContextStore, ServerContext, TLSSettings

if TYPE_CHECKING:
    from triosmtp.server.local_sessions import LocalSessions
    from triosmtp.server.policy_listener import PolicyEndpoint

__all__ = ["Generation", "Running", "Service", "Statistics", "limiter_key", "speaks_for_many"]


_PER_TURN: Final = 256
_LEAST_PER_TURN: Final = 2
_CONNECTIONS: Final = 50
"""Connections of one address, where nothing else is said: as Postfix has it."""
_HASHING: Final = 2
"""Attempts to authenticate that are computed at once, in each process."""
_HASHING_WAITING: Final = 64
_HASHING_WAITING_PER_PEER: Final = 4


@define(slots=True)
class Statistics:
    """Counters since the server began, and the sessions that run now."""

    sessions: int = 0
    """Sessions under way."""
    sessions_total: int = 0
    """Sessions that began."""
    connections_refused: int = 0
    """Connections that had no session, because a limit was reached."""
    handshakes: int = 0
    """TLS handshakes that were completed, whatever became of the client's certificate."""
    handshakes_failed: int = 0
    """TLS handshakes that were not, and plaintext behind STARTTLS."""
    messages_accepted: int = 0
    """Messages that were delivered, or thrown away by a policy: their clients were told 250."""
    messages_refused: int = 0
    """Messages that were refused after their body had arrived."""
    bytes_accepted: int = 0
    """Octets of accepted messages, as their clients sent them."""

    def subscription(self) -> Subscription:
        """Return what counts the events of a server."""
        return Subscription(
            self._count, (MessageAccepted, MessageRefused, TLSEstablished, TLSFailed, ConnectionRefused)
        )

    def _count(self, event: ServerEvent) -> None:
        if isinstance(event, MessageAccepted):
            self.messages_accepted += 1
            self.bytes_accepted += event.size
        elif isinstance(event, MessageRefused):
            self.messages_refused += 1
        elif isinstance(event, TLSEstablished):
            self.handshakes += 1
        elif isinstance(event, TLSFailed):
            self.handshakes_failed += 1
        else:
            self.connections_refused += 1


@define(slots=True, eq=False)
class Generation:
    """A configuration with all that was made of it.  The one in force is swapped whole; a session keeps its own."""

    config: Config
    profiles: Profiles
    tls: tuple[TLSSettings, ...]
    """Every TLS context that its connections can need."""
    policy_endpoints: "Mapping[object, PolicyEndpoint]" = field(factory=dict)
    """What each Listen for policy clients demands, by its key."""
    sessions: int = 0
    """Sessions under way."""
    last_contexts: Mapping[TLSSettings, ServerContext] = field(factory=dict)
    """The contexts that were in force when another generation took its place."""


class Running(Protocol):
    """A session under way, as the service sees it."""

    session: Session
    started: float
    """On Trio's clock."""
    context: ServerContext | None
    """The TLS context that its handshake began with."""

    @property
    def generation(self) -> Generation:
        """The configuration that the session began with."""

    @property
    def state(self) -> str:
        """Where the session stands, in a word."""

    @property
    def messages(self) -> int:
        """How many messages it began."""

    def drain(self) -> None:
        """End with 421 as soon as no transaction is under way: the server does."""

    def expire(self) -> None:
        """End with 421 now: the server has no more time."""

    def close(self) -> None:
        """End with 421 as soon as no transaction is under way: somebody asked for it."""

    def check_timeouts(self, now: float) -> None:
        """End if a time limit has been reached at ``now``."""


def speaks_for_many(peer: PeerAddress | None, settings: Settings) -> bool:
    """Whether many connections are to be expected of a peer: it is trusted, or others come by it."""
    if peer is None or peer.is_loopback or peer in settings.proxy_protocol:
        return True
    if any(peer in network for network in settings.relay_hosts):
        return True
    return any(extension.upper() in TRUSTED_EXTENSIONS for extension in settings.smtp_extensions)


def limiter_key(session: Session) -> Hashable:
    """Return what counts as one peer of a :class:`PeerLimiter`.

    Without an address, as on a Unix socket, each session is a peer of its own.
    """
    return session.id if session.peer_address is None else peer_key(session.peer_address)


class Service:
    """The shared state behind every session of one server."""

    def __init__(
        self, generation: Generation, contexts: ContextStore, hub: Hub, observers: Iterable[Observer] = ()
    ) -> None:
        self.generation = generation
        """What is in force for new sessions."""
        self.contexts = contexts
        self.hub = hub
        """Where policy clients are."""
        self.handshakes = HandshakeLimiter(generation.config.base.tls_handshakes_max)
        self.statistics = Statistics()
        self.draining = False
        self.running: set[Running] = set()
        """The sessions under way; each enters and leaves by itself."""
        self.host: LocalSessions | None = None
        """Answers for the sessions, wherever they are."""
        self.now: Callable[[], float] = trio.lowlevel.current_clock().current_time
        """Returns the time on Trio's clock, for less than ``trio.current_time()`` takes."""
        self.observers = Observers((self.statistics.subscription(), hub.subscription, *observers))
        self.emit: Observer = self.observers.emit
        """Call every observer of an event."""
        self.peers = PeerCounts()
        """What is counted of each peer."""
        self.hashing = PeerLimiter(_HASHING, waiting=_HASHING_WAITING, waiting_per_peer=_HASHING_WAITING_PER_PEER)
        """Attempts to authenticate that are computed in threads: each takes a processor, and argon2 tens of MB."""
        self.spooling = PeerLimiter(THREADS, waiting=sys.maxsize, waiting_per_peer=sys.maxsize)
        """Bodies that are written to spool files.  Of each session one waits at most, so no other bound is needed."""
        self.flights = FlightLimiter()
        """Large flights of handshakes, which are verified in threads."""
        self._busy = 0  # sessions that have more to do, and wait for their turn
        self.replies_per_turn = _PER_TURN
        """Replies that a session gathers before it writes them and others get their turn, however many were pipelined.

        The fewer, the more sessions are as busy: those that say one command at a time wait for all of these.
        """
        self.space = SpoolSpace()
        """What spool files hold."""
        self._sessions_of: dict[str, int] = {}
        # Unique over restarts by its random part, cheap by its counter.
        self._prefix = secrets.token_hex(4)
        self._number = 0

    async def yield_turn(self) -> None:
        """Let others have their turn, in the middle of what a client has pipelined."""
        self._count_busy(+1)
        try:
            await trio.lowlevel.checkpoint()
        finally:
            self._count_busy(-1)

    def _count_busy(self, change: int) -> None:
        self._busy += change
        self.replies_per_turn = max(_LEAST_PER_TURN, _PER_TURN // (1 + self._busy))

    def attach(self, host: "LocalSessions") -> None:
        """Have ``host`` answer for the sessions, to policy clients as well."""
        self.host = host
        self.hub.attach(host)

    def observe(self, observer: Observer) -> None:
        """Call ``observer`` with each event from now on."""
        self.observers.add(observer)

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self.generation.config

    @property
    def profiles(self) -> Profiles:
        """The profiles in force."""
        return self.generation.profiles

    @property
    def sessions_by_listener(self) -> Mapping[str, int]:
        """How many sessions are under way, by the name of their Listen; those without any are left out."""
        return dict(self._sessions_of)

    def tls_settings(self) -> tuple[TLSSettings, ...]:
        """Give the settings of every TLS context in force."""
        return self.generation.tls

    def activate(self, generation: Generation) -> None:
        """Put ``generation`` in force for the sessions that begin from now on."""
        old = self.generation
        old.last_contexts = {settings: self.contexts.get(settings) for settings in old.tls}
        self.handshakes.limit = generation.config.base.tls_handshakes_max
        self.generation = generation

    def context(self, generation: Generation, settings: TLSSettings) -> ServerContext:
        """Give the TLS context for a session of ``generation``: the one in force where its settings still are."""
        try:
            return self.contexts.get(settings)
        except KeyError:
            return generation.last_contexts[settings]

    def new_session_id(self) -> str:
        """Give an id that no other session has or had."""
        self._number += 1
        return f"{self._prefix}-{self._number:x}"

    async def admit_handshake(self, session: Session, settings: Settings) -> str:
        """Let a handshake in, unless a limit is reached; give the name of that limit, or ``""``."""
        per_peer = settings.tls_handshakes_per_peer
        return self.handshakes.admit(session.id, session.peer_address, per_peer, trio.current_time())

    def leave_handshake(self, session: str) -> None:
        """Count the handshake of ``session`` out.  May be called where none was let in."""
        self.handshakes.release(session)

    async def count_peer(self, option: str, peer: PeerAddress | None, limit: tuple[int, float]) -> bool:
        """Count one more of what ``option`` limits for ``peer``; False where it has had its share."""
        return self.peers.count(option, peer, limit, trio.current_time())

    def uncount_peer(self, option: str, peer: PeerAddress | None) -> None:
        """Take back one that :meth:`count_peer` counted."""
        self.peers.uncount(option, peer)

    def admit_peer(self, peer: PeerAddress | None, settings: Settings) -> str:
        """Count a connection of ``peer`` in, unless a limit is reached; give the name of that limit, or ``""``."""
        rate = settings.connection_rate_per_peer
        if rate is not None and not self.peers.count("Connection_Rate_Per_Peer", peer, rate, trio.current_time()):
            return "Connection_Rate_Per_Peer"
        limit = settings.connections_per_peer
        if limit is None:
            limit = _CONNECTIONS
        if self.peers.connect(peer, limit):
            return ""
        if settings.connections_per_peer is None and speaks_for_many(peer, settings):
            self.peers.connect(peer, 0)
            return ""
        return "Connections_Per_Peer"

    def admit(self, listen: Listen, listener_limit: int, service_limit: int) -> str:
        """Count a new session in, unless a limit (0: none) is reached; give the name of that limit, or ``""``."""
        sessions = self._sessions_of.get(listen.name, 0)
        if listener_limit and sessions >= listener_limit:
            return "Listener_Sessions"
        if service_limit and self.statistics.sessions >= service_limit:
            return "Service_Sessions"
        self._sessions_of[listen.name] = sessions + 1
        self.generation.sessions += 1
        self.statistics.sessions += 1
        self.statistics.sessions_total += 1
        return ""

    async def release(self, listen: Listen, generation: Generation) -> None:
        """Count a session of ``generation`` out that :meth:`admit` counted in."""
        self.count_out(listen, generation)
        await self.close_unused(generation)

    def count_out(self, listen: Listen, generation: Generation) -> None:
        """Count a session out; :meth:`close_unused` is to follow."""
        self._sessions_of[listen.name] -= 1
        if not self._sessions_of[listen.name]:
            del self._sessions_of[listen.name]
        generation.sessions -= 1
        self.statistics.sessions -= 1

    async def close_unused(self, generation: Generation) -> None:
        """Close the deliveries of a generation that is out of force, when its last session has ended."""
        if generation is not self.generation and not generation.sessions:
            await generation.profiles.aclose()
