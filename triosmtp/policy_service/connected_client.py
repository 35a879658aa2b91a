"""One policy client as the hub sees it: its access, its registration, and the questions that it has not answered."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final

import trio
from attrs import define, field, frozen

from triosmtp.policy_service.client_access import ClientAccess
from triosmtp.policy_service.hub_limits import HubLimits
from triosmtp.policy_service.json_rpc import ErrorCode, ProtocolError, encode_json
from triosmtp.policy_service.outbox import Outbox, encode_text_frame
from triosmtp.policy_service.question import Question
from triosmtp.policy_service.registration import Registration

__all__ = ["CLIENT_GONE", "CloseReason", "ConnectedClient", "FailedAnswer", "PendingQuestion"]

_MAX_SESSIONS: Final = 100_000
"""Sessions whose variables are remembered for a client that wants only changes."""


@frozen(slots=True)
class CloseReason:
    """Why a client was disconnected."""

    text: str
    code: int = 1008
    """The status code of the websocket's Close frame (RFC 6455, section 7.4.1); 1008 is a policy violation."""
    flush: bool = False
    """Whether the frames in the outbox are sent before the Close frame."""


CLOSED: Final = CloseReason("closed", 1000)
GOING_AWAY: Final = CloseReason("going away", 1001, flush=True)
BINARY_FRAME: Final = CloseReason("a binary frame", 1003)


class _Gone(Enum):
    CLIENT_GONE = "gone"


CLIENT_GONE: Final = _Gone.CLIENT_GONE
"""Stands for an answer: the client is disconnected, and another one may be asked."""


@frozen(slots=True)
class FailedAnswer:
    """Stands for an answer: the client answered with an error."""

    reason: str


@define(slots=True, eq=False)
class PendingQuestion:
    """A question that waits for its answer."""

    question: Question
    done: trio.Event = field(factory=trio.Event)
    answer: Any = None
    """The unchecked result, :data:`CLIENT_GONE` or a :class:`FailedAnswer`."""

    def settle(self, answer: object) -> None:
        """Set the answer.  Further answers are ignored."""
        if not self.done.is_set():
            self.answer = answer
            self.done.set()


def _send_later(_frame: bytes) -> bool:
    return False


class ConnectedClient:
    """A client that is connected.

    The task that writes to it takes frames from :attr:`outbox`.  ``disconnect`` must end its tasks.
    """

    def __init__(self, access: ClientAccess, limits: HubLimits, *, admin: bool, disconnect: Callable[[], None]) -> None:
        self.access = access
        self.admin = admin
        """Whether it sent the admin token."""
        self.outbox = Outbox(limits.queue, limits.queue_bytes, limits.outstanding, limits.urgent_bytes)
        self.send_now: Callable[[bytes], bool] = _send_later
        """Send a frame if that is possible without waiting; return whether it was sent."""
        self.registration: Registration | None = None
        self.connected_at = trio.current_time()
        self.malformed = 0
        self.timeouts = 0
        """Time-outs in a row."""
        self.late = 0
        self.answered = 0
        self.running_requests = 0
        self.dropped = False
        """Whether it was dropped.  Then it is not asked again."""
        self.close_reason = CLOSED
        self._limits = limits
        self._disconnect = disconnect
        self._pending: dict[str, PendingQuestion] = {}
        self._expired: OrderedDict[str, None] = OrderedDict()
        self._last_sent: OrderedDict[str, tuple[dict[str, str], dict[str, str]]] = OrderedDict()

    @property
    def name(self) -> str:
        """The name that it registered; ``""`` before that."""
        return "" if self.registration is None else self.registration.name

    @property
    def outstanding(self) -> int:
        """The number of questions that it has not answered."""
        return len(self._pending)

    def drop(self, reason: CloseReason) -> None:
        """Disconnect the client.  Its questions are settled with :data:`CLIENT_GONE`."""
        self.dropped = True
        self.close_reason = reason
        self.abandon_questions()
        self._disconnect()

    def abandon_questions(self) -> None:
        """Settle all questions with :data:`CLIENT_GONE`."""
        pending, self._pending = self._pending, {}
        for each in pending.values():
            each.settle(CLIENT_GONE)

    def send(self, text: str) -> None:
        """Send a question or a response.  A client that reads too slowly for it is dropped."""
        framed = encode_text_frame(text.encode("ascii"))
        if not self.outbox and self.send_now(framed):
            return
        if not self.outbox.put_urgent(framed):
            self.drop(CloseReason("too slow: it does not read"))

    # Questions

    def open_question(self, number: object) -> Question | None:
        """Return the question with that id, if the client has not answered it."""
        pending = self._pending.get(number) if isinstance(number, str) else None
        return None if pending is None else pending.question

    def ask(self, question: Question, deadline: float) -> PendingQuestion:
        """Send a question; ``deadline`` is on Trio's clock."""
        pending = PendingQuestion(question)
        if len(self._pending) >= self._limits.outstanding:
            pending.settle(CLIENT_GONE)
            self.drop(CloseReason("too slow: it answers too few questions"))
            return pending
        text = self._question_text(question, deadline)
        self._pending[question.id] = pending
        self.send(text)
        return pending

    def _question_text(self, question: Question, deadline: float) -> str:
        registration = self.registration
        assert registration is not None, "only a registered client is asked"
        connection: Mapping[str, str | None] = registration.variables.select(question.variables)
        message: Mapping[str, str | None] = registration.message_variables.select(question.message_variables)
        if registration.changed_only:
            connection, message = self._changes_of_session(question.session, connection, message)
        arguments = question.arguments
        if question.password is not None and registration.decides and self.access.private:
            arguments = {**arguments, "password": question.password}
        params = {
            "session": question.session,
            "phase": question.phase,
            "peer": question.peer,
            "listener": question.listener,
            "variables": connection,
            "message_variables": message,
            "arguments": arguments,
            "deadline_ms": max(0, round((deadline - trio.current_time()) * 1000)),
        }
        request = {"jsonrpc": "2.0", "id": question.id, "method": f"validate_{question.phase}", "params": params}
        return encode_json(request)

    def _changes_of_session(
        self, session: str, connection: Any, message: Any
    ) -> tuple[Mapping[str, str | None], Mapping[str, str | None]]:
        """Return what changed since the last question about the session, and remember the new variables."""
        before = self._last_sent.get(session)
        self._last_sent[session] = connection, message
        if len(self._last_sent) > _MAX_SESSIONS:
            self._last_sent.popitem(last=False)
        if before is None:
            return connection, message
        return _changes(before[0], connection), _changes(before[1], message)

    def expire_question(self, question: str) -> None:
        """Stop waiting for the answer to ``question``.  An answer that comes later is counted as late."""
        if self._pending.pop(question, None) is not None:
            self._expired[question] = None
            if len(self._expired) > self._limits.outstanding:
                self._expired.popitem(last=False)

    def settle_question(self, question: object, answer: object) -> None:
        """Set the answer to a question.

        :raises ProtocolError: if this client was not asked it.
        """
        pending = self._pending.pop(question, None) if isinstance(question, str) else None
        if pending is not None:
            self.answered += 1
            pending.settle(answer)
        elif isinstance(question, str) and question in self._expired:
            del self._expired[question]
            self.late += 1
        else:
            text = f"no question {str(question)[:80]!r} is open for this client"
            raise ProtocolError(ErrorCode.INVALID_REQUEST, text)

    def forget_session(self, session: str) -> None:
        """Forget the variables of a session that has ended."""
        self._last_sent.pop(session, None)


def _changes(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str | None]:
    """Return variables that are new or have changed; None for those that were removed."""
    changes: dict[str, str | None] = {name: value for name, value in now.items() if before.get(name) != value}
    changes.update((name, None) for name in before if name not in now)
    return changes
