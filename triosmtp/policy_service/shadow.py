"""Deciders in shadow: they are asked after each phase, and their answers are only compared with the outcome."""

import logging
from collections import OrderedDict, deque
from typing import Any, Final, TypeAlias

import trio
from attrs import define, evolve, field

from triosmtp.event import Observer, ShadowDiffered
from triosmtp.policy.interface import PHASES, Phase
from triosmtp.policy_service.connected_client import ConnectedClient, PendingQuestion
from triosmtp.policy_service.hub_limits import HubLimits
from triosmtp.policy_service.json_rpc import ErrorCode, ProtocolError
from triosmtp.policy_service.question import Outcome, Question, Verdict, decider_source, is_decider_source
from triosmtp.policy_service.registration import Registration
from triosmtp.policy_service.verdict_reader import describe_verdict, read_verdict

__all__ = ["ShadowDeciders", "ShadowRecord", "ShadowedSession", "describe_outcome", "differs_from_outcome"]

_log = logging.getLogger("triosmtp.policy")

_MAX_RECORDS: Final = 256
"""Deciders in shadow whose record is kept."""
_MAX_SESSIONS: Final = 100_000
_MAX_EXAMPLES: Final = 20
_MAX_LOGGED: Final = 20
"""Invalid answers of one decider in shadow that are logged."""
_MAILFROM: Final = PHASES.index("mailfrom")
_ONCE: Final = frozenset({"mailfrom", "data", "data_spool"})
"""Phases that a message has only once."""


@define(slots=True, eq=False)
class _ShadowedMessage:
    differs: bool = False


@define(slots=True, eq=False)
class ShadowedSession:
    """A session about which a decider in shadow was asked."""

    differs: bool = False
    message: _ShadowedMessage | None = None
    last_phase: int = 0
    """The number of the last phase of a message that was asked."""

    def begins_message(self, phase: Phase) -> bool:
        """Return whether ``phase`` belongs to another message: at MAIL, or if it cannot follow the last phase."""
        number = PHASES.index(phase)
        if number < _MAILFROM:
            return False
        begins = self.message is None or number < self.last_phase or (phase in _ONCE and number == self.last_phase)
        self.last_phase = number
        return begins


_Subject: TypeAlias = tuple[ShadowedSession, _ShadowedMessage | None]


@define(slots=True, eq=False)
class ShadowRecord:
    """The answers of one decider in shadow.  The record is kept when the client disconnects."""

    group: str
    name: str
    asked: int = 0
    failed: int = 0
    """Questions without a valid answer."""
    sessions: int = 0
    sessions_differing: int = 0
    messages: int = 0
    messages_differing: int = 0
    _open: OrderedDict[str, ShadowedSession] = field(factory=OrderedDict)
    _examples: deque[dict[str, Any]] = field(factory=lambda: deque(maxlen=_MAX_EXAMPLES))

    def count_question(self, question: Question) -> _Subject:
        """Count a question; return its session and its message."""
        session = self._open.get(question.session)
        if session is None:
            session = self._open[question.session] = ShadowedSession()
            self.sessions += 1
            if len(self._open) > _MAX_SESSIONS:
                self._open.popitem(last=False)
        if session.begins_message(question.phase):
            session.message = _ShadowedMessage()
            self.messages += 1
        self.asked += 1
        return session, session.message

    def compare(self, question: Question, subject: _Subject, verdict: Verdict, outcome: Outcome) -> bool:
        """Record an answer; return whether it differs from the outcome."""
        if not differs_from_outcome(verdict, outcome):
            return False
        session, message = subject
        if not session.differs:
            session.differs = True
            self.sessions_differing += 1
        if message is not None and not message.differs:
            message.differs = True
            self.messages_differing += 1
        self._examples.append(
            {
                "session": question.session,
                "peer": question.peer,
                "listener": question.listener,
                "phase": question.phase,
                "arguments": {name: question.arguments[name] for name in question.arguments if name != "headers"},
                "answer": describe_verdict(verdict),
                "text": verdict.text,
                "outcome": describe_outcome(outcome),
            }
        )
        return True

    def forget_session(self, session: str) -> None:
        """Forget a session that has ended."""
        self._open.pop(session, None)

    def report(self) -> dict[str, Any]:
        """Return the counts and the latest examples as plain values."""
        return {
            "group": self.group,
            "name": self.name,
            "asked": self.asked,
            "failed": self.failed,
            "sessions": self.sessions,
            "sessions_differing": self.sessions_differing,
            "messages": self.messages,
            "messages_differing": self.messages_differing,
            "examples": list(self._examples),
        }


class ShadowDeciders:
    """The connected deciders in shadow, and the records of all."""

    def __init__(self, emit: Observer) -> None:
        self._emit = emit
        self._records: dict[tuple[str, str], ShadowRecord] = {}
        self._clients: dict[Phase, list[tuple[ConnectedClient, Registration]]] = {phase: [] for phase in PHASES}
        self._waiting = 0  # for answers

    @property
    def phases(self) -> frozenset[Phase]:
        """The phases at which a decider in shadow is asked."""
        return frozenset(phase for phase, clients in self._clients.items() if clients)

    def add(self, client: ConnectedClient, registration: Registration) -> None:
        """Add a client.

        :raises ProtocolError: if too many are connected.
        """
        key = registration.group, registration.name
        if key not in self._records:
            if len(self._records) >= _MAX_RECORDS:
                self._forget_oldest()
            self._records[key] = ShadowRecord(*key)
        for phase in registration.phases:
            self._clients[phase].append((client, registration))

    def remove(self, client: ConnectedClient, registration: Registration) -> None:
        """Remove a client that has disconnected.  Its record is kept."""
        for phase in registration.phases:
            self._clients[phase].remove((client, registration))

    def _forget_oldest(self) -> None:
        connected = {(each.group, each.name) for clients in self._clients.values() for _, each in clients}
        oldest = next((key for key in self._records if key not in connected), None)
        if oldest is None:
            raise ProtocolError(ErrorCode.FAILED, f"there are {_MAX_RECORDS} deciders in shadow already")
        del self._records[oldest]

    def ask(self, question: Question, outcome: Outcome, nursery: trio.Nursery, limits: HubLimits) -> None:
        """Ask the deciders that want the phase; tasks in ``nursery`` wait for their answers."""
        # Clients with the same name share the sessions: each session stays with one client, and is counted once.
        wanted: dict[tuple[str, str], list[ConnectedClient]] = {}
        for client, registration in self._clients[question.phase]:
            if registration.wants_session(question.peer, question.listener):
                wanted.setdefault((registration.group, registration.name), []).append(client)
        for key, clients in wanted.items():
            record = self._records[key]
            subject = record.count_question(question)
            if self._waiting >= limits.shadow_questions:
                record.failed += 1
                continue
            client = clients[hash(question.session) % len(clients)]
            # Ask here, not in the task: the questions of a session are sent in order, and before its end.
            deadline = trio.current_time() + limits.shadow_seconds
            pending = client.ask(evolve(question, id=f"{question.id}-shadow", password=None), deadline)
            self._waiting += 1
            nursery.start_soon(self._wait_for_answer, client, record, pending, deadline, subject, outcome)

    async def _wait_for_answer(
        self,
        client: ConnectedClient,
        record: ShadowRecord,
        pending: PendingQuestion,
        deadline: float,
        subject: _Subject,
        outcome: Outcome,
    ) -> None:
        question = pending.question
        try:
            with trio.CancelScope(deadline=deadline) as scope:
                await pending.done.wait()
            if scope.cancelled_caught:
                client.expire_question(question.id)
        finally:
            self._waiting -= 1
        verdict = _read_answer(pending, record)
        if verdict is None:
            record.failed += 1
        elif record.compare(question, subject, verdict, outcome):
            self._emit(
                ShadowDiffered(
                    session=question.info,
                    phase=question.phase,
                    group=record.group,
                    name=record.name,
                    answer=describe_verdict(verdict),
                    outcome=describe_outcome(outcome),
                )
            )

    def forget_session(self, session: str) -> None:
        """Forget a session that has ended."""
        for record in self._records.values():
            record.forget_session(session)

    def report(self) -> list[dict[str, Any]]:
        """Return the report of each record."""
        return [record.report() for record in self._records.values()]


def _read_answer(pending: PendingQuestion, record: ShadowRecord) -> Verdict | None:
    if not isinstance(pending.answer, dict):
        return None
    try:
        return read_verdict(pending.answer, pending.question, decider_source(record.group, record.name))
    except ProtocolError as error:
        if record.failed < _MAX_LOGGED:  # the report counts all of them
            _log.warning("decider in shadow %s/%s: invalid answer: %s", record.group, record.name, error.message)
        return None


def describe_outcome(outcome: Outcome) -> str:
    """Return an outcome in a few words."""
    words = [outcome.decision, str(outcome.code) if outcome.code else "", outcome.enhanced or ""]
    return " ".join(word for word in words if word) + (f" by {outcome.decided_by}" if outcome.decided_by else "")


def differs_from_outcome(verdict: Verdict, outcome: Outcome) -> bool:
    """Return whether the verdict would have changed the outcome.  Another text is no difference."""
    if verdict.decision in {"continue", "done"}:
        # If a built-in restriction or a policy in Python refused, this verdict would have changed nothing.
        return outcome.decision == "refused" and is_decider_source(outcome.decided_by)
    if verdict.decision == "discard":
        return outcome.decision != "refused" and not outcome.decided_by  # else the message was discarded
    return outcome.decision != "refused" or outcome.code // 100 != verdict.code // 100
