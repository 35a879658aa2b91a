"""What the sessions of one server share: the generation in force, TLS contexts, limits, events, the policy hub."""

import secrets
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Final, Protocol

import trio

from triosmtp.config import Config
from triosmtp.event import Observer
from triosmtp.limits.peer_count import peer_key
from triosmtp.observer import Observers
from triosmtp.policy import Session
from triosmtp.policy_service.hub import Hub
from triosmtp.server.generation import Generation
from triosmtp.server.profile import Profiles
from triosmtp.server.service_limits import ServiceLimits
from triosmtp.server.statistics import Statistics
from triosmtp.tls import ContextStore, ServerContext, TLSSettings

if TYPE_CHECKING:
    from triosmtp.jetstream.event_publisher import EventPublisher

__all__ = ["RunningSession", "Service", "fair_queue_key"]

_MAX_REPLIES_PER_TURN: Final = 256
_MIN_REPLIES_PER_TURN: Final = 2


class RunningSession(Protocol):
    """A session of the server."""

    session: Session
    started: float
    """When it started, on Trio's clock."""
    context: ServerContext | None
    """The TLS context that its handshake began with."""

    @property
    def generation(self) -> Generation:
        """The configuration that the session started with."""

    @property
    def state(self) -> str:
        """The state of the dialogue, in lower case."""

    @property
    def messages(self) -> int:
        """The number of messages that it began."""

    def check_timeouts(self, now: float) -> None:
        """End if a time limit has been reached at ``now``."""

    def drain(self) -> None:
        """End with 421 as soon as no transaction is under way, because the server shuts down."""

    def expire(self) -> None:
        """End with 421 now, because the server shuts down and has no more time."""

    def close(self) -> None:
        """End with 421 as soon as no transaction is under way, because an operator or a policy client asked for it."""


def fair_queue_key(session: Session) -> Hashable:
    """Return what counts as one peer of a :class:`~triosmtp.limits.fair_queue.FairQueue`.

    Without an address, as on a Unix socket, each session is a peer of its own.
    """
    return session.id if session.peer_address is None else peer_key(session.peer_address)


class Service:
    """The state that all sessions of one server share."""

    def __init__(
        self,
        generation: Generation,
        contexts: ContextStore,
        hub: Hub,
        observers: Iterable[Observer] = (),
        *,
        limits: ServiceLimits | None = None,
        publisher: "EventPublisher | None" = None,
    ) -> None:
        self.generation = generation
        """The configuration in force for new sessions."""
        self.contexts = contexts
        """The TLS contexts in force."""
        self.hub = hub
        """The policy clients."""
        self.limits = limits or ServiceLimits(Statistics(), generation.config.base.tls_handshakes_max)
        self.statistics = self.limits.statistics
        self.publisher = publisher
        """The publisher of events to NATS; None without Publish_Events."""
        published = () if publisher is None else (publisher.subscription,)
        self.observers = Observers((self.statistics.subscription(), hub.subscription, *published, *observers))
        """The observers of the events."""
        self.emit: Observer = self.observers.emit
        """Call every observer of an event."""
        self._on_target_change: Callable[[], None] | None = None
        self._connect_targets()
        self.now: Callable[[], float] = trio.lowlevel.current_clock().current_time
        """Return the time on Trio's clock, faster than ``trio.current_time()``."""
        self.draining = False
        self.running: set[RunningSession] = set()
        """The sessions now.  Each adds and removes itself."""
        self._busy = 0  # sessions that wait for their turn with more pipelined commands
        self.replies_per_turn = _MAX_REPLIES_PER_TURN
        """The number of replies that a session collects before it writes them and lets other sessions run.

        The more sessions are busy, the smaller it is: a session with one command at a time waits for all of them.
        """
        # The random part makes ids unique over restarts.
        node = generation.config.base.node_name
        self._id_prefix = f"{node}-{secrets.token_hex(4)}" if node else secrets.token_hex(4)
        self._last_id = 0

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self.generation.config

    @property
    def profiles(self) -> Profiles:
        """The profiles in force."""
        return self.generation.profiles

    def tls_settings(self) -> tuple[TLSSettings, ...]:
        """Return the settings of every TLS context in force."""
        return self.generation.tls

    def activate(self, generation: Generation) -> Generation:
        """Put ``generation`` in force for new sessions, and return the former one, which is to be closed."""
        former = self.generation
        former.last_contexts = {settings: self.contexts.get(settings) for settings in former.tls}
        self.limits.handshakes.limit = generation.config.base.tls_handshakes_max
        self.generation = generation
        self._connect_targets()
        generation.profiles.targets.adopt_health(former.profiles.targets)
        return former

    def _connect_targets(self) -> None:
        events = self.generation.profiles.events
        events.observer, events.on_change = self.emit, self._on_target_change
        if self.generation.profiles.script_set is not None:
            self.generation.profiles.script_set.attach(self)

    def report_target_changes(self, on_change: Callable[[], None]) -> None:
        """Call ``on_change`` from now on when the health of a target in force has changed."""
        self._on_target_change = on_change
        self._connect_targets()

    def context(self, generation: Generation, settings: TLSSettings) -> ServerContext:
        """Return the TLS context for a session of ``generation``: the one in force if ``settings`` are still used."""
        try:
            return self.contexts.get(settings)
        except KeyError:
            return generation.last_contexts[settings]

    def new_session_id(self) -> str:
        """Return an id that no other session has or had, on any node."""
        self._last_id += 1
        return f"{self._id_prefix}-{self._last_id:x}"

    async def yield_turn(self) -> None:
        """Let other sessions run between two pipelined commands."""
        self._count_busy(+1)
        try:
            await trio.lowlevel.checkpoint()
        finally:
            self._count_busy(-1)

    def _count_busy(self, change: int) -> None:
        self._busy += change
        self.replies_per_turn = max(_MIN_REPLIES_PER_TURN, _MAX_REPLIES_PER_TURN // (1 + self._busy))
