"""The hub: where sessions and the policy clients of other processes meet.

**The theory.**  A policy that runs elsewhere can be slow, wrong, silent, or gone.  Mail must not wait for it longer
than was agreed, must not be lost by it, and must not be let through because of it.  All else follows.

*Values only.* A session asks a :class:`~triosmtp.policy_service.question.Question` and gets a ``Verdict``.  Neither
holds a stream, a session or a lock, so the hub may be in another process than the sessions; and nothing that a client
says reaches a session but through ``read_verdict``, which lets a whole answer pass,
or none of it.

*A verdict always comes.*  :meth:`Hub.decide` raises nothing.  Where there is no decider, where time runs out, or where
the answer cannot be applied, the verdict is the *fallback* that the operator chose for that phase, marked as such, and
told as an event: a fallback is never silent.  The group remembers at which phases its deciders wanted to be asked, so
that those who are gone still guard them.

*One question has one deadline,* however many deciders it meets.  One that dies in the middle gives the question back,
and the next one is asked in what time is left.  Deciders of a group share the sessions: each session stays with the one
that it began with, for only that one has seen what came before.

*Who is slow pays for it himself.*  A client's frames wait in a queue of its own, which one task empties.  Notifications
that find it full are lost, and the client is told how many; a question that finds it full ends the client.  Nothing
that is told to one client waits for another, and no mail waits for anybody who only listens.

*The breaker.*  Deciders that hang without dying cost every mail the whole time limit.  After a few time-outs in a row a
group's fallback is given at once, and a single question now and then finds out whether it answers again.

*Shadows.*  A decider in shadow is asked when the phase is over, with what was asked and with what came of it in hand.
It can delay nothing, since nobody waits; and what it says is compared, counted, and thrown away.

The hub itself knows no sockets: whoever accepts connections hands them to :meth:`Hub.serve_client`, with what is known
of whoever is on the other side.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
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
    SessionInfo,
)
from triosmtp.histogram import Histogram
from triosmtp.message.spool import Body
from triosmtp.observer import Subscription
from triosmtp.policy.interface import PHASES, Phase, Policy
from triosmtp.policy_service.client_requests import Control
from triosmtp.policy_service.connected_client import ClientAccess, ConnectedClient, Failed, HubLimits
from triosmtp.policy_service.decider_group import Group, NoAnswerError
from triosmtp.policy_service.event_notification import EVENT_NOTIFICATIONS, EventNotification
from triosmtp.policy_service.hub_policy import HubPolicy
from triosmtp.policy_service.json_rpc import (
    PROTOCOL,
    ErrorCode,
    ProtocolError,
    Request,
    Response,
    encode_error,
    encode_json,
    encode_result,
    read_message,
)
from triosmtp.policy_service.outbox import frame
from triosmtp.policy_service.question import (
    Fallback,
    Interest,
    Outcome,
    Question,
    ServerAdmin,
    Verdict,
    fallback_verdict,
)
from triosmtp.policy_service.recorded_body import MAX_RECORDED, check_may_record, encode_body
from triosmtp.policy_service.registration import read_registration
from triosmtp.policy_service.shadow import Shadows

__all__ = ["ClientAccess", "Hub", "HubLimits"]

_ALWAYS_OBSERVED: Final[frozenset[type]] = frozenset({Disconnected})

_log = logging.getLogger("triosmtp.policy")


class Hub:
    """Asks, tells and counts policy clients.

    It works as soon as it is made.  Deciders in shadow are asked only while :meth:`run` runs.
    """

    def __init__(self, limits: HubLimits | None = None) -> None:
        self.limits = limits or HubLimits()
        self.host: ServerAdmin | None = None
        """The server whose sessions these are; None while there is none."""
        self.on_event: Observer = self.observe
        """Who is told of what happens in the hub while no server is attached."""
        self.on_interest_changed: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        """Called when :attr:`interest` has changed; a client is in when this has returned."""
        self._links: list[ConnectedClient] = []
        self._groups: dict[str, Group] = {}
        self._shadows = Shadows(self._tell)
        self._listening: dict[str, list[ConnectedClient]] = {}
        self.outcome_phases: frozenset[Phase] = frozenset()
        """The phases whose outcome some client wants to know."""
        self.recorded_octets = 0
        """How many octets of each message some client records: usually none."""
        self.subscription = Subscription(self.observe, _ALWAYS_OBSERVED)
        """The observer of a server's events that notifies the clients."""
        self._sequence = 0
        self._nursery: trio.Nursery | None = None
        self._control = Control(self)
        self._bodies: dict[str, Body] = {}  # of the messages that questions under way are about, by their ids

    def attach(self, host: ServerAdmin) -> None:
        """Take ``host`` as the server whose sessions these are."""
        self.host = host

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask deciders in shadow, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None

    # Deciding

    def policy(
        self,
        group: str,
        *,
        timeout: float = 5.0,
        fallback: Fallback = "tempfail",
        fallback_phases: Mapping[Phase, Fallback] | None = None,
    ) -> Policy:
        """Give the policy that asks ``group``, to stand in a list like any other.

        ``timeout`` is in seconds; ``fallback_phases`` overrides ``fallback`` at single phases.
        """
        self.group(group).kept = True
        return HubPolicy(
            self, group, timeout, {phase: (fallback_phases or {}).get(phase, fallback) for phase in PHASES}
        )

    def group(self, name: str) -> Group:
        """Give the group of that name."""
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = Group(name, self.limits)
        return group

    def wants(self, group: str, phase: Phase) -> bool:
        """Whether anything may become of a question to ``group`` at ``phase``: cheap, to be asked first."""
        known = self._groups.get(group)
        return phase == "mailfrom" if known is None else known.wants(phase)

    async def decide(self, group: str, question: Question, *, timeout: float, fallback: Fallback) -> Verdict:  # noqa: ASYNC109 - it is given to the clients
        """Have ``group`` decide, within ``timeout`` seconds.  Never raises but for cancellation."""
        asked = self.group(group)
        asked.kept = True
        try:
            verdict = await asked.ask(question, timeout)
        except NoAnswerError as error:
            asked.fallbacks += 1
            return self._fall_back(group, question, fallback, str(error))
        return Verdict() if verdict is None else verdict

    @contextmanager
    def offer_body(self, question: str, body: Body) -> Iterator[None]:
        """Let the deciders that are asked ``question`` ask for ``body``, until the block is left."""
        self._bodies[question] = body
        try:
            yield
        finally:
            del self._bodies[question]

    async def body_part(self, question: str, start: int, size: int) -> tuple[bytes, int] | None:
        """Return up to ``size`` octets of the message of a question, and its whole size; None if none is shown.

        :raises SpoolError: if the message cannot be read.
        """
        body = self._bodies.get(question)
        return None if body is None else (await body.part(start, size), body.size)

    def _fall_back(self, group: str, question: Question, fallback: Fallback, failure: str) -> Verdict:
        event = PolicyFallback(
            session=question.info,
            phase=question.phase,
            group=group,
            fallback=fallback,
            failure=failure,
        )
        self._tell(event)
        return fallback_verdict(group, question, fallback, failure)

    async def replay(self, group: str, question: Question, timeout: float) -> Verdict:  # noqa: ASYNC109 - as above
        """Ask ``group`` without any consequence: for a replay.

        :raises ProtocolError: where there is no answer that could be applied.
        """
        try:
            verdict = await (self._groups.get(group) or Group(group, self.limits)).ask(question, timeout)
        except NoAnswerError as error:
            raise ProtocolError(ErrorCode.FAILED, str(error)) from None
        return Verdict() if verdict is None else verdict

    @property
    def interest(self) -> Interest:
        """What anybody here may want to be asked or told: a value, for sessions in another process."""
        groups = {name: frozenset(each for each in PHASES if group.wants(each)) for name, group in self._groups.items()}
        return Interest(groups=groups, outcomes=self.outcome_phases, recorded_octets=self.recorded_octets)

    def _update_interest(self) -> None:
        """Compute what sessions ask at every phase and event: to be called when a client has come or gone."""
        recorders = self._listening.get("session.phase", ())
        self.outcome_phases = frozenset(PHASES) if recorders else self._shadows.phases
        wanted = (each.access.body_limit for each in recorders if each.registration and each.registration.bodies)
        self.recorded_octets = min(max(wanted, default=0), MAX_RECORDED)
        self.subscription.change(_ALWAYS_OBSERVED | EVENT_NOTIFICATIONS.keys() if self._listening else _ALWAYS_OBSERVED)

    # What became of a phase

    def report_outcome(self, question: Question, outcome: Outcome) -> None:
        """Tell what became of a phase to those who want to know."""
        if "session.phase" in self._listening:
            params = {
                "phase": question.phase,
                "arguments": question.arguments,
                "outcome": {
                    "decision": outcome.decision,
                    "code": outcome.code or None,
                    "enhanced": outcome.enhanced,
                    "text": outcome.text,
                    "decided_by": outcome.decided_by,
                },
            }
            contexts = {"variables": question.variables, "message_variables": question.message_variables}
            note = EventNotification("session.phase", params, contexts, outcome.excerpt)
            self._notify(note, question.session, question.peer, question.listener)
        if self._nursery is not None:
            self._shadows.ask(question, evolve(outcome, excerpt=None), self._nursery, self.limits)

    # Telling

    def observe(self, event: ServerEvent) -> None:
        """Notify the clients of an event."""
        if self._listening and type(event) in EVENT_NOTIFICATIONS:
            note = EVENT_NOTIFICATIONS[type(event)](event)
            if note.method in self._listening:
                info: SessionInfo | None = getattr(event, "session", None)
                self._notify(note, *("", "", "") if info is None else (info.id, info.peer, info.listener))
        if isinstance(event, Disconnected):
            self._forget(event.session.id)

    def _forget(self, session: str) -> None:
        for group in self._groups.values():
            group.forget(session)
        self._shadows.forget(session)
        for link in self._links:
            link.forget(session)

    def _tell(self, event: ServerEvent) -> None:
        if self.host is not None:
            self.host.emit(event)
        else:
            self.on_event(event)

    def _notify(self, note: EventNotification, session: str, peer: str, listener: str) -> None:
        """Encode a notification once for all clients that see the same of it, and put it into their queues."""
        self._sequence += 1
        head: dict[str, Any] = {"sequence": self._sequence, "time": _now()}
        if session:
            head |= {"session": session, "peer": peer, "listener": listener}
        bodies: dict[object, str] = {}
        framed: dict[object, bytes] = {}
        for link in self._listening[note.method]:
            registration = link.registration
            assert registration is not None, "it introduced itself"
            if session and not registration.wants_session(peer, listener):
                continue
            limit = link.access.body_limit if registration.bodies and note.excerpt is not None else 0
            key = registration.seen if note.contexts else (), limit
            if key not in bodies:
                contexts = {name: registration.wanted(name).of(values) for name, values in note.contexts.items()}
                body = encode_body(note.excerpt, limit) if limit else {}
                bodies[key] = encode_json({**head, **contexts, **note.params, **body})
            outbox = link.outbox
            if outbox.lost:
                lost, outbox.lost = outbox.lost, 0
                if not outbox.put(_frame(note.method, f'{{"lost":{lost},{bodies[key][1:]}')):
                    outbox.lost += lost
                continue
            if key not in framed:
                framed[key] = _frame(note.method, bodies[key])
            outbox.put(framed[key])

    # Clients

    async def serve_client(self, stream: trio.abc.Stream, access: ClientAccess) -> None:
        """Serve one client, on a stream whose TLS is up already, until it ends.  Closes the stream."""
        from triosmtp.policy_service.websocket_server import serve_websocket  # noqa: PLC0415 - only where there are clients

        await serve_websocket(self, stream, access)

    def report_refused(self, access: ClientAccess, reason: str) -> None:
        """Note that somebody was turned away."""
        self._tell(PolicyClientRefused(peer=access.peer, listener=access.listener, reason=reason))

    def add_client(self, access: ClientAccess, *, admin: bool, drop: Callable[[], None]) -> ConnectedClient:
        """Take in a client that is allowed in; it has not introduced itself yet."""

        def retire() -> None:
            # At once: its tasks may take a while to end, and nobody is to be asked whose answer nobody reads.
            if link.registration is not None and link.registration.decides:
                self._leave(link, link.registration.group)
            drop()

        link = ConnectedClient(access, self.limits, admin=admin, drop=retire)
        self._links.append(link)
        return link

    def _leave(self, link: ConnectedClient, name: str) -> None:
        group = self._groups.get(name)
        if group is not None:
            group.leave(link)
            if group.empty and not group.kept:
                del self._groups[name]  # else whoever has a token could make up names without end

    def remove_client(self, link: ConnectedClient) -> None:
        """Let go of a client that is gone."""
        self._links.remove(link)
        registration = link.registration
        if registration is not None:
            if registration.decides:
                self._leave(link, registration.group)
            if registration.shadows:
                self._shadows.leave(link, registration)
            for method in registration.notifications:
                self._listening[method].remove(link)
                if not self._listening[method]:
                    del self._listening[method]
            self._update_interest()
            seconds = trio.current_time() - link.connected
            self._tell(PolicyClientDisconnected(**_who(link), reason=link.reason, seconds=seconds))
        link.release()  # whoever asks again now asks the others
        if self._nursery is not None:
            self._nursery.start_soon(self.on_interest_changed)

    def close_clients(self, reason: str, *, at: Collection[str]) -> None:
        """End every client that came through one of the Listens ``at``."""
        for link in tuple(self._links):
            if link.access.listener in at:
                link.drop(reason)

    async def receive_message(self, link: ConnectedClient, text: str) -> None:
        """Take one message of a client's."""
        number: str | int | None = None
        try:
            message = read_message(text)
            if isinstance(message, Response):
                self._settle(link, message)
                return
            number = message.id
            answer = await self._call(link, message)
            if number is not None:
                link.send(encode_result(number, answer))
        except ProtocolError as error:
            link.send(encode_error(number, error))
            if error.code in {ErrorCode.INVALID_REQUEST, ErrorCode.PARSE_ERROR}:
                link.malformed += 1
                if link.malformed >= self.limits.malformed:
                    link.drop("too many malformed messages")
        except Exception:  # noqa: BLE001 - what was asked for failed: the client is told so, and goes on
            _log.exception("policy client %s: a request failed", link.access.peer)
            link.send(
                encode_error(number, ProtocolError(ErrorCode.FAILED, "the request failed; the server's log says why"))
            )

    def _settle(self, link: ConnectedClient, response: Response) -> None:
        link.settle(response.id, Failed(response.error) if response.error else response.result)

    async def _call(self, link: ConnectedClient, call: Request) -> object:
        if call.method == "initialize":
            answer = self._initialize(link, call)
            await self.on_interest_changed()
            return answer
        if link.registration is None:
            raise ProtocolError(ErrorCode.NOT_INITIALIZED, "initialize comes first")
        return await self._control.call(link, call)

    def _initialize(self, link: ConnectedClient, call: Request) -> object:
        if link.registration is not None:
            raise ProtocolError(ErrorCode.INVALID_REQUEST, "initialize comes once")
        registration = read_registration(call.params)
        if registration.bodies:
            check_may_record(link)
        if registration.shadows:
            self._shadows.join(link, registration)
        link.registration = registration
        if registration.decides:
            self.group(registration.group).join(link)
        for method in registration.notifications:
            self._listening.setdefault(method, []).append(link)
        self._update_interest()
        self._tell(PolicyClientConnected(**_who(link)))
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

    # Looking at it

    def groups(self) -> list[dict[str, Any]]:
        """Give how each group does, with its clients; as plain values."""
        found = [group.status() for group in self._groups.values()]
        for status in found:
            status["clients"] = [_client(link) for link in self._links if _group(link) == status["group"]]
        return found

    def latencies(self) -> dict[str, Histogram]:
        """Give how long the answers of each group took, in seconds, by its name; later answers do not touch it."""
        return {name: group.latency.copy() for name, group in self._groups.items()}

    def clients(self) -> list[dict[str, Any]]:
        """Give every client that has introduced itself, as plain values."""
        return [_client(link) for link in self._links if link.registration is not None]

    def shadow_report(self) -> list[dict[str, Any]]:
        """Give what deciders in shadow would have done otherwise, as plain values."""
        return self._shadows.report()


@lru_cache(maxsize=1)
def _version() -> str:
    try:
        return version("triosmtp")
    except PackageNotFoundError:
        return ""  # run from a source tree


def _group(link: ConnectedClient) -> str:
    return "" if link.registration is None else link.registration.group


def _who(link: ConnectedClient) -> dict[str, str]:
    registration = link.registration
    assert registration is not None, "it introduced itself"
    return {
        "name": registration.name,
        "group": registration.group,
        "role": registration.role,
        "mode": registration.mode,
        "peer": link.access.peer,
        "listener": link.access.listener,
    }


def _client(link: ConnectedClient) -> dict[str, Any]:
    return _who(link) | {
        "outstanding": link.outstanding,
        "answered": link.answered,
        "late": link.late,
        "lost": link.outbox.lost,
        "malformed": link.malformed,
        "seconds": round(trio.current_time() - link.connected, 1),
    }


def _frame(method: str, body: str) -> bytes:
    return frame(f'{{"jsonrpc":"2.0","method":"{method}","params":{body}}}'.encode("ascii"))


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
