"""Deciders in shadow: they are asked what really happened already, and what they would have done instead is counted."""

from collections import OrderedDict, deque
from typing import Any, Final

from attrs import define, field

from triosmtp.policy.interface import PHASES, Phase
from triosmtp.policy.question import Outcome, Question, Verdict
from triosmtp.policy.wire import describe

__all__ = ["ShadowRecord", "differs", "summary"]

_SESSIONS: Final = 100_000
_EXAMPLES: Final = 20
_MAIL: Final = PHASES.index("mailfrom")
_ONCE: Final = frozenset({"mailfrom", "data", "data_spool"})
"""Phases that a message has once."""


@define(slots=True)
class _Session:
    differs: bool = False
    message_differs: bool = False
    message: int = 0
    last: int = 0
    """The latest phase of a message that was asked about, by its number."""

    def begins_message(self, phase: Phase) -> bool:
        """Whether a question is about another message: at MAIL, or where ``phase`` cannot follow the last one."""
        number = PHASES.index(phase)
        if number < _MAIL:
            return False
        begins = self.message == 0 or number < self.last or (phase in _ONCE and number == self.last)
        self.last = number
        return begins


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
    _open: OrderedDict[str, _Session] = field(factory=OrderedDict)
    _examples: deque[dict[str, Any]] = field(factory=lambda: deque(maxlen=_EXAMPLES))

    def begin(self, question: Question) -> int:
        """Note that it is asked; give the number of the message in its session that the question is about."""
        session = self._open.get(question.session)
        if session is None:
            session = self._open[question.session] = _Session()
            self.sessions += 1
            if len(self._open) > _SESSIONS:
                self._open.popitem(last=False)
        if session.begins_message(question.phase):
            session.message += 1
            session.message_differs = False
            self.messages += 1
        self.asked += 1
        return session.message

    def compare(self, question: Question, message: int, verdict: Verdict, outcome: Outcome) -> bool:
        """Note the answer; give whether it differs from what really happened."""
        if not differs(verdict, outcome):
            return False
        session = self._open.get(question.session)
        if session is not None and not session.differs:
            session.differs = True
            self.sessions_differing += 1
        if session is not None and message and session.message == message and not session.message_differs:
            session.message_differs = True
            self.messages_differing += 1
        self._examples.append(
            {
                "session": question.session,
                "peer": question.peer,
                "listener": question.listener,
                "phase": question.phase,
                "arguments": {name: question.arguments[name] for name in question.arguments if name != "headers"},
                "answer": describe(verdict),
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
        return outcome.decision != "refused"
    return outcome.decision != "refused" or outcome.code // 100 != verdict.code // 100
