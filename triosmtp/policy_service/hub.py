"""The hub connects sessions with policy clients in other processes.

A policy in another process may be slow, wrong, silent or gone.  Mail must not wait for it longer than the configured
time, must not be lost because of it, and must not be accepted because of it.  These rules follow:

- **Values only.** A session asks a :class:`~triosmtp.policy_service.question.Question` and receives a ``Verdict``.
  Neither contains a stream, a session or a lock, so the hub may be in another process than the sessions.  An answer of
  a client reaches a session only through :func:`~triosmtp.policy_service.verdict_reader.read_verdict`, which accepts
  the complete answer or nothing of it.
- **There is always a verdict.** :meth:`Hub.decide` raises only cancellation.  If there is no decider, the time is up,
  or the answer cannot be applied, the verdict is the *fallback* that is configured for the phase.  Each fallback is
  an event.  A group remembers the phases of its last deciders, and falls back at these phases while none is connected.
- **One question has one deadline.** If its decider disconnects, the next one is asked within the time that is left.
  The deciders of a group share the sessions.  A session stays with one decider, which has seen its earlier phases.
- **A slow client affects only itself.** The frames for a client wait in its own queue, which one task sends.  If the
  queue is full, notifications are lost and the client learns how many.  If a question does not fit, the client is
  dropped.  No client waits for another one, and no mail waits for an observer.
- **A circuit breaker** limits the cost of deciders that hang.  After some time-outs in a row, the fallback of the group
  applies at once.  Now and then one question probes whether a decider answers again.
- **Deciders in shadow** are asked after the phase, with its outcome known.  No session waits for them.  Their answers
  are compared and counted, and have no effect.

The hub opens no sockets.  The caller of :meth:`Hub.serve_client` accepts connections, and says what is known about the
client.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import trio
from attrs import evolve

from triosmtp.event import (
    Disconnected,
    Observer,
    PolicyClientConnected,
    PolicyClientDisconnected,
    PolicyClientRefused,
    PolicyFallback,
    ServerEvent,
)
from triosmtp.histogram import Histogram
from triosmtp.message.spool import Body
from triosmtp.observer import Subscription
from triosmtp.policy.interface import PHASES, Phase, Policy
from triosmtp.policy_service.circuit_breaker import NoAnswerError
from triosmtp.policy_service.client_access import ClientAccess
from triosmtp.policy_service.client_requests import ClientRequests
from triosmtp.policy_service.connected_client import GOING_AWAY, CloseReason, ConnectedClient, FailedAnswer
from triosmtp.policy_service.decider_group import DeciderGroup
from triosmtp.policy_service.event_notification import EVENT_NOTIFICATIONS, phase_notification
from triosmtp.policy_service.filter_registry import FilterRegistry
from triosmtp.policy_service.hub_limits import HubLimits
from triosmtp.policy_service.json_rpc import (
    PROTOCOL,
    ErrorCode,
    ProtocolError,
    RPCRequest,
    RPCResponse,
    encode_error,
    encode_result,
    read_message,
)
from triosmtp.policy_service.notifier import Notifier
from triosmtp.policy_service.question import Fallback, Interest, Outcome, Question, Verdict, fallback_verdict
from triosmtp.policy_service.recorded_body import check_may_record
from triosmtp.policy_service.registration import read_registration
from triosmtp.policy_service.server_admin import ServerAdmin
from triosmtp.policy_service.shadow import ShadowDeciders
from triosmtp.policy_service.websocket_policy import WebsocketPolicy

__all__ = ["ClientAccess", "Hub", "HubLimits"]

_ALWAYS_OBSERVED: Final[frozenset[type]] = frozenset({Disconnected})

_log = logging.getLogger("triosmtp.policy")


class Hub:
    """Asks deciders, and notifies all policy clients.

    It works as soon as it is made.  Deciders in shadow are asked only while :meth:`run` runs.
    """

    def __init__(self, limits: HubLimits | None = None) -> None:
        self.limits = limits or HubLimits()
        self.server: ServerAdmin | None = None
        """The server whose sessions the hub serves; None if there is none."""
        self.on_event: Observer = self.observe
        """Called with the events of the hub while it has no server."""
        self.on_interest_changed: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        """Called when :attr:`interest` has changed.  ``initialize`` is answered when it has returned."""
        self.outcome_phases: frozenset[Phase] = frozenset()
        """The phases whose outcome a client wants."""
        self.recorded_octets = 0
        """The bytes of each message that a client records."""
        self.subscription = Subscription(self.observe, _ALWAYS_OBSERVED)
        """The observer of a server's events that notifies the clients."""
        self._clients: list[ConnectedClient] = []
        self._groups: dict[str, DeciderGroup] = {}
        self._shadows = ShadowDeciders(self._emit)
        self.filters = FilterRegistry(self.limits, self._emit)
        """The filters that the server connects to."""
        self._notifier = Notifier()
        self._nursery: trio.Nursery | None = None
        self._requests = ClientRequests(self)
        self._bodies: dict[str, Body] = {}  # the message of each open question, by the id of the question

    def attach(self, server: ServerAdmin) -> None:
        """Set the server whose sessions the hub serves."""
        self.server = server

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask deciders in shadow until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None

    # Questions

    def policy(
        self,
        group: str,
        *,
        timeout: float = 5.0,
        fallback: Fallback = "tempfail",
        fallback_phases: Mapping[Phase, Fallback] | None = None,
    ) -> Policy:
        """Return the policy that asks ``group``, for a list of policies.

        ``timeout`` is in seconds; ``fallback_phases`` overrides ``fallback`` at single phases.
        """
        self.group(group).is_configured = True
        return WebsocketPolicy(
            self, group, timeout, {phase: (fallback_phases or {}).get(phase, fallback) for phase in PHASES}
        )

    def group(self, name: str) -> DeciderGroup:
        """Return the group with that name; add it if it does not exist."""
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = DeciderGroup(name, self.limits)
        return group

    def wants(self, group: str, phase: Phase) -> bool:
        """Return whether a question to ``group`` at ``phase`` may have an effect."""
        known = self._groups.get(group)
        return phase == "mailfrom" if known is None else known.wants(phase)

    async def decide(self, group: str, question: Question, *, timeout: float, fallback: Fallback) -> Verdict:  # noqa: ASYNC109 - clients receive it
        """Ask ``group`` within ``timeout`` seconds; return its verdict or the fallback.  Raise only cancellation."""
        asked = self.group(group)
        asked.is_configured = True
        try:
            verdict = await asked.ask(question, timeout)
        except NoAnswerError as error:
            asked.fallbacks += 1
            return self._fall_back(group, question, fallback, str(error))
        return Verdict() if verdict is None else verdict

    def _fall_back(self, group: str, question: Question, fallback: Fallback, failure: str) -> Verdict:
        event = PolicyFallback(
            session=question.info,
            phase=question.phase,
            group=group,
            fallback=fallback,
            failure=failure,
        )
        self._emit(event)
        return fallback_verdict(group, question, fallback, failure)

    async def replay(self, group: str, question: Question, timeout: float) -> Verdict:  # noqa: ASYNC109 - as above
        """Ask ``group`` a recorded question, and return the verdict, which has no effect.

        :raises ProtocolError: if there is no answer that can be applied.
        """
        try:
            verdict = await (self._groups.get(group) or DeciderGroup(group, self.limits)).ask(question, timeout)
        except NoAnswerError as error:
            raise ProtocolError(ErrorCode.FAILED, str(error)) from None
        return Verdict() if verdict is None else verdict

    @contextmanager
    def offer_body(self, question: str, body: Body) -> Iterator[None]:
        """Allow the deciders that are asked ``question`` to read ``body`` within the block."""
        self._bodies[question] = body
        try:
            yield
        finally:
            del self._bodies[question]

    async def body_part(self, question: str, start: int, size: int) -> tuple[bytes, int] | None:
        """Return up to ``size`` bytes of the message of a question, and its whole size; None if none is offered.

        :raises SpoolError: if the message cannot be read.
        """
        body = self._bodies.get(question)
        return None if body is None else (await body.part(start, size), body.size)

    @property
    def interest(self) -> Interest:
        """The questions and outcomes that clients want: a value for sessions in another process."""
        groups = {name: frozenset(each for each in PHASES if group.wants(each)) for name, group in self._groups.items()}
        return Interest(groups=groups, outcomes=self.outcome_phases, recorded_octets=self.recorded_octets)

    @property
    def notifications_lost(self) -> int:
        """The notifications that were lost, because a client does not keep up."""
        return self._notifier.lost

    def _update_interest(self) -> None:
        """Compute what sessions read at each phase and event, after a client registered or disconnected."""
        self.outcome_phases = frozenset(PHASES) if "session.phase" in self._notifier else self._shadows.phases
        self.recorded_octets = self._notifier.recorded_octets
        self.subscription.change(_ALWAYS_OBSERVED | EVENT_NOTIFICATIONS.keys() if self._notifier else _ALWAYS_OBSERVED)

    # Outcomes and events

    def report_outcome(self, question: Question, outcome: Outcome) -> None:
        """Report the outcome of a phase to the clients that want it."""
        if "session.phase" in self._notifier:
            self._notifier.send(phase_notification(question, outcome), question.info)
        if self._nursery is not None:
            self._shadows.ask(question, evolve(outcome, excerpt=None), self._nursery, self.limits)

    def observe(self, event: ServerEvent) -> None:
        """Notify the clients of an event."""
        if self._notifier and type(event) in EVENT_NOTIFICATIONS:
            notification = EVENT_NOTIFICATIONS[type(event)](event)
            if notification.method in self._notifier:
                self._notifier.send(notification, getattr(event, "session", None))
        if isinstance(event, Disconnected):
            self._forget_session(event.session.id)

    def _forget_session(self, session: str) -> None:
        for group in self._groups.values():
            group.forget_session(session)
        self._shadows.forget_session(session)
        for client in self._clients:
            client.forget_session(session)

    def _emit(self, event: ServerEvent) -> None:
        if self.server is not None:
            self.server.emit(event)
        else:
            self.on_event(event)

    # Clients

    async def serve_client(self, stream: trio.abc.Stream, access: ClientAccess) -> None:
        """Serve one client until it disconnects, then close ``stream``.  A TLS handshake must be done before."""
        from triosmtp.policy_service.websocket_server import serve_websocket  # noqa: PLC0415 - only if there are clients

        await serve_websocket(self, stream, access)

    def report_refused(self, access: ClientAccess, reason: str) -> None:
        """Emit the event that a client was refused."""
        self._emit(PolicyClientRefused(peer=access.peer, listener=access.listener, reason=reason))

    def add_client(self, access: ClientAccess, *, admin: bool, disconnect: Callable[[], None]) -> ConnectedClient:
        """Add a client that may connect.  It is not registered yet."""

        def retire() -> None:
            # Its tasks may need a while to end. Meanwhile no session must ask it, because nobody reads its answers.
            if client.registration is not None and client.registration.decides:
                self._leave_group(client, client.registration.group)
            disconnect()

        client = ConnectedClient(access, self.limits, admin=admin, disconnect=retire)
        self._clients.append(client)
        return client

    def remove_client(self, client: ConnectedClient) -> None:
        """Remove a client that has disconnected."""
        self._clients.remove(client)
        registration = client.registration
        if registration is not None:
            if registration.decides:
                self._leave_group(client, registration.group)
            if registration.shadows:
                self._shadows.remove(client, registration)
            self._notifier.remove(client, registration)
            self._update_interest()
            seconds = trio.current_time() - client.connected_at
            reason = client.close_reason.text
            self._emit(PolicyClientDisconnected(**_identity(client), reason=reason, seconds=seconds))
        client.abandon_questions()  # at the end: sessions that ask again must ask others
        if self._nursery is not None:
            self._nursery.start_soon(self.on_interest_changed)

    def _leave_group(self, client: ConnectedClient, name: str) -> None:
        group = self._groups.get(name)
        if group is not None:
            group.remove(client)
            if group.empty and not group.is_configured:
                del self._groups[name]  # else a client could add groups without limit

    def close_clients(self, *, at: Collection[str]) -> None:
        """Disconnect every client of the Listens ``at``, because these Listens end."""
        for client in tuple(self._clients):
            if client.access.listener in at:
                client.drop(GOING_AWAY)

    async def receive_message(self, client: ConnectedClient, text: str) -> None:
        """Handle one message of a client: an answer, a request or a notification."""
        number: str | int | None = None
        try:
            message = read_message(text)
            if isinstance(message, RPCResponse):
                answer = FailedAnswer(message.error) if message.error else message.result
                client.settle_question(message.id, answer)
                return
            number = message.id
            result = await self._handle_request(client, message)
            if number is not None:
                client.send(encode_result(number, result))
        except ProtocolError as error:
            client.send(encode_error(number, error))
            if error.code in {ErrorCode.INVALID_REQUEST, ErrorCode.PARSE_ERROR}:
                client.malformed += 1
                if client.malformed >= self.limits.malformed:
                    client.drop(CloseReason("too many malformed messages", flush=True))
        except Exception:  # noqa: BLE001 - a request that fails must not disconnect the client
            _log.exception("policy client %s: a request failed", client.access.peer)
            failure = ProtocolError(ErrorCode.FAILED, "the request failed; the server's log says why")
            client.send(encode_error(number, failure))

    async def _handle_request(self, client: ConnectedClient, request: RPCRequest) -> object:
        if request.method == "initialize":
            result = self._initialize(client, request)
            await self.on_interest_changed()
            return result
        if client.registration is None:
            raise ProtocolError(ErrorCode.NOT_INITIALIZED, "initialize comes first")
        return await self._requests.handle(client, request)

    def _initialize(self, client: ConnectedClient, request: RPCRequest) -> object:
        if client.registration is not None:
            raise ProtocolError(ErrorCode.INVALID_REQUEST, "initialize comes once")
        registration = read_registration(request.params)
        if registration.bodies:
            check_may_record(client)
        if registration.shadows:
            self._shadows.add(client, registration)
        client.registration = registration
        if registration.decides:
            self.group(registration.group).add(client)
        self._notifier.add(client, registration)
        self._update_interest()
        self._emit(PolicyClientConnected(**_identity(client)))
        limits = self.limits
        return {
            "server": "triosmtp",
            "version": _version(),
            "protocol": PROTOCOL,
            "limits": {
                "message_bytes": limits.message_bytes,
                "outstanding": limits.outstanding,
                "queue": limits.queue,
            },
            "deadlines": {"shadow_ms": round(limits.shadow_seconds * 1000)},
            "phases": sorted(registration.phases, key=PHASES.index),
            "notifications": sorted(registration.notifications),
        }

    # Status

    def groups(self) -> list[dict[str, Any]]:
        """Return the status of each group, with its clients, as plain values."""
        found = [group.status() for group in self._groups.values()]
        for status in found:
            status["clients"] = [_status(each) for each in self._clients if _group(each) == status["group"]]
        return found + self.filters.status()

    def latencies(self) -> dict[str, Histogram]:
        """Return copies of the histograms of answer times in seconds, by the name of the group."""
        return {name: group.latency.copy() for name, group in self._groups.items()} | self.filters.latencies()

    def clients(self) -> list[dict[str, Any]]:
        """Return the status of every registered client as plain values."""
        return [_status(client) for client in self._clients if client.registration is not None]

    def shadow_report(self) -> list[dict[str, Any]]:
        """Return the answers of deciders in shadow that differ from the outcomes, as plain values."""
        return self._shadows.report()


@lru_cache(maxsize=1)
def _version() -> str:
    try:
        return version("triosmtp")
    except PackageNotFoundError:
        return ""  # not installed


def _group(client: ConnectedClient) -> str:
    return "" if client.registration is None else client.registration.group


def _identity(client: ConnectedClient) -> dict[str, str]:
    registration = client.registration
    assert registration is not None, "the client is registered"
    return {
        "name": registration.name,
        "group": registration.group,
        "role": registration.role,
        "mode": registration.mode,
        "peer": client.access.peer,
        "listener": client.access.listener,
    }


def _status(client: ConnectedClient) -> dict[str, Any]:
    return _identity(client) | {
        "outstanding": client.outstanding,
        "answered": client.answered,
        "late": client.late,
        "lost": client.outbox.lost,
        "malformed": client.malformed,
        "seconds": round(trio.current_time() - client.connected_at, 1),
    }
