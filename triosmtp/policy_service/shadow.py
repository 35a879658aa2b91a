"""Deciders in shadow: they are asked what really happened already, and what they would have done instead is counted."""

import logging
from collections import OrderedDict, deque
from typing import Any, Final, TypeAlias

import trio
from attrs import define, evolve, field

from triosmtp.event import Observer, ShadowDiffered
from triosmtp.policy.interface import PHASES, Phase
from triosmtp.policy_service.connected_client import ConnectedClient, HubLimits, Pending
from triosmtp.policy_service.json_rpc import ErrorCode, ProtocolError
from triosmtp.policy_service.question import Outcome, Question, Verdict
from triosmtp.policy_service.registration import Registration
from triosmtp.policy_service.verdict_reader import describe_verdict, read_verdict

__all__ = ["Asked", "ShadowRecord", "Shadows", "differs", "summary"]

_log = logging.getLogger("triosmtp.policy")

_RECORDS: Final = 256
"""Deciders in shadow that are remembered, by their names."""
_SESSIONS: Final = 100_000
_EXAMPLES: Final = 20
_LOGGED: Final = 20
"""Answers of one decider in shadow that cannot be used, and are logged."""
_MAIL: Final = PHASES.index("mailfrom")
_ONCE: Final = frozenset({"mailfrom", "data", "data_spool"})
"""Phases that a message has once."""


@define(slots=True, eq=False)
class _Message:
    differs: bool = False


@define(slots=True, eq=False)
class Asked:
    """One session as a shadow has seen it: kept by whoever waits for an answer, which may come when it is over."""

    differs: bool = False
    message: _Message | None = None
    last: int = 0
    """The latest phase of a message that was asked about, by its number."""

    def begins_message(self, phase: Phase) -> bool:
        """Whether a question is about another message: at MAIL, or where ``phase`` cannot follow the last one."""
        number = PHASES.index(phase)
        if number < _MAIL:
            return False
        begins = self.message is None or number < self.last or (phase in _ONCE and number == self.last)
        self.last = number
        return begins


_About: TypeAlias = tuple[Asked, _Message | None]


@define(slots=True, eq=False)
class ShadowRecord:
    """What one client in shadow would have done.  It outlives the client, under the group's name and its own."""

    group: str
    name: str
    asked: int = 0
    failed: int = 0
    """Questions without an answer that could have been applied."""
    sessions: int = 0
    sessions_differing: int = 0
    messages: int = 0
    messages_differing: int = 0
    _open: OrderedDict[str, Asked] = field(factory=OrderedDict)
    _examples: deque[dict[str, Any]] = field(factory=lambda: deque(maxlen=_EXAMPLES))

    def begin(self, question: Question) -> _About:
        """Note that it is asked; give the session and the message that the question is about."""
        session = self._open.get(question.session)
        if session is None:
            session = self._open[question.session] = Asked()
            self.sessions += 1
            if len(self._open) > _SESSIONS:
                self._open.popitem(last=False)
        if session.begins_message(question.phase):
            session.message = _Message()
            self.messages += 1
        self.asked += 1
        return session, session.message

    def compare(self, question: Question, about: _About, verdict: Verdict, outcome: Outcome) -> bool:
        """Note the answer; give whether it differs from what really happened."""
        if not differs(verdict, outcome):
            return False
        session, message = about
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
                "outcome": summary(outcome),
            }
        )
        return True

    def forget(self, session: str) -> None:
        """A session is over."""
        self._open.pop(session, None)

    def report(self) -> dict[str, Any]:
        """Give the counts and the latest examples, as plain values."""
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


class Shadows:
    """All deciders in shadow, connected or gone, and what they would have done."""

    def __init__(self, tell: Observer) -> None:
        self._tell = tell
        self._records: dict[tuple[str, str], ShadowRecord] = {}
        self._links: dict[Phase, list[tuple[ConnectedClient, Registration]]] = {phase: [] for phase in PHASES}
        self._asked = 0

    @property
    def phases(self) -> frozenset[Phase]:
        """The phases at which one of them is to be asked."""
        return frozenset(phase for phase, links in self._links.items() if links)

    def join(self, link: ConnectedClient, registration: Registration) -> None:
        """Take one in.

        :raises ProtocolError: where there are too many.
        """
        key = registration.group, registration.name
        if key not in self._records:
            if len(self._records) >= _RECORDS:
                self._forget_oldest()
            self._records[key] = ShadowRecord(*key)
        for phase in registration.phases:
            self._links[phase].append((link, registration))

    def leave(self, link: ConnectedClient, registration: Registration) -> None:
        """Let go of one that is gone; its record stays."""
        for phase in registration.phases:
            self._links[phase].remove((link, registration))

    def _forget_oldest(self) -> None:
        here = {(each.group, each.name) for links in self._links.values() for _, each in links}
        oldest = next((key for key in self._records if key not in here), None)
        if oldest is None:
            raise ProtocolError(ErrorCode.FAILED, f"there are {_RECORDS} deciders in shadow already")
        del self._records[oldest]

    def ask(self, question: Question, outcome: Outcome, nursery: trio.Nursery, limits: HubLimits) -> None:
        """Ask those who want it what they would have decided; tasks in ``nursery`` wait for the answers."""
        # Clients of one name share the load: each session stays with one of them, and is counted once.
        wanted: dict[tuple[str, str], list[ConnectedClient]] = {}
        for link, registration in self._links[question.phase]:
            if registration.wants_session(question.peer, question.listener):
                wanted.setdefault((registration.group, registration.name), []).append(link)
        for key, links in wanted.items():
            record = self._records[key]
            about = record.begin(question)
            if self._asked >= limits.shadow_questions:
                record.failed += 1
                continue
            link = links[hash(question.session) % len(links)]
            # Asked here, not in the task: so what one session asks keeps its order, and comes before its end.
            deadline = trio.current_time() + limits.shadow_seconds
            pending = link.ask(evolve(question, id=f"{question.id}-shadow", password=None), deadline)
            self._asked += 1
            nursery.start_soon(self._hear, link, record, pending, deadline, about, outcome)

    async def _hear(
        self,
        link: ConnectedClient,
        record: ShadowRecord,
        pending: Pending,
        deadline: float,
        about: _About,
        outcome: Outcome,
    ) -> None:
        question = pending.question
        try:
            with trio.CancelScope(deadline=deadline) as scope:
                await pending.done.wait()
            if scope.cancelled_caught:
                link.expire(question.id)
        finally:
            self._asked -= 1
        verdict = _verdict(pending, record)
        if verdict is None:
            record.failed += 1
        elif record.compare(question, about, verdict, outcome):
            self._tell(
                ShadowDiffered(
                    session=question.info,
                    phase=question.phase,
                    group=record.group,
                    name=record.name,
                    answer=describe_verdict(verdict),
                    outcome=summary(outcome),
                )
            )

    def forget(self, session: str) -> None:
        """A session is over."""
        for record in self._records.values():
            record.forget(session)

    def report(self) -> list[dict[str, Any]]:
        """Give what each would have done otherwise, as plain values."""
        return [record.report() for record in self._records.values()]


def _verdict(pending: Pending, record: ShadowRecord) -> Verdict | None:
    if not isinstance(pending.answer, dict):
        return None
    try:
        return read_verdict(pending.answer, pending.question, f"websocket:{record.group}/{record.name}")
    except ProtocolError as error:
        if record.failed < _LOGGED:  # all of them are counted in the report
            _log.warning("in shadow, %s/%s: %s", record.group, record.name, error.message)
        return None


def summary(outcome: Outcome) -> str:
    """Give an outcome in a few words."""
    words = [outcome.decision, str(outcome.code) if outcome.code else "", outcome.enhanced or ""]
    return " ".join(word for word in words if word) + (f" by {outcome.decided_by}" if outcome.decided_by else "")


def differs(verdict: Verdict, outcome: Outcome) -> bool:
    """Whether the peer, or the message, would have fared otherwise: another wording alone is no difference."""
    if verdict.decision in {"continue", "done"}:
        # Built-in rules and other policies have refused what this one lets pass: it would not have changed that.
        return outcome.decision == "refused" and outcome.decided_by.startswith("websocket:")
    if verdict.decision == "discard":
        return outcome.decision != "refused" and not outcome.decided_by  # else it was discarded in truth
    return outcome.decision != "refused" or outcome.code // 100 != verdict.code // 100
