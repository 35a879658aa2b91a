"""One policy client as the hub sees it: who it is, what it wants, and the questions that it owes an answer to."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import trio
from attrs import define, field, frozen

from triosmtp.policy_service.json_rpc import ErrorCode, ProtocolError, encode_json
from triosmtp.policy_service.outbox import Outbox, frame
from triosmtp.policy_service.question import Question
from triosmtp.policy_service.registration import Registration

__all__ = ["ClientAccess", "ConnectedClient", "Failed", "Gone", "HubLimits", "Pending"]


@frozen(slots=True, kw_only=True)
class HubLimits:
    """How much a hub puts up with."""

    message_bytes: int = 262144
    """Of one frame from a client."""
    outstanding: int = 1000
    """Questions that one decider may owe; control requests that one client may have under way are a sixteenth of it."""
    queue: int = 10_000
    """Notifications that wait for one client; beyond them they are lost."""
    queue_bytes: int = 8 * 1024 * 1024
    urgent_bytes: int = 64 * 1024 * 1024
    """Of questions and answers that wait for one client; then it is dropped."""
    malformed: int = 20
    """Malformed frames of one client; then it is dropped."""
    client_timeouts: int = 5
    """Time-outs of one client in a row; then it is dropped."""
    breaker_timeouts: int = 5
    """Time-outs of one group in a row that open its circuit breaker."""
    breaker_seconds: float = 10.0
    """Between two questions that probe a group whose breaker is open."""
    ping_seconds: float = 20.0
    """Between two pings; a pong must come before the next is due."""
    shadow_seconds: float = 5.0
    """For the answer of a decider in shadow."""
    shadow_questions: int = 1000
    """Questions to deciders in shadow under way at once; beyond them they are not asked."""


@frozen(slots=True, kw_only=True)
class ClientAccess:
    """Through which door a client came, and what that door demands."""

    listener: str
    """The Listen's name, as it is written."""
    peer: str
    local: bool = False
    """A Unix socket: its mode and the kernel's word about who connects stand in for a token."""
    encrypted: bool = False
    certificate: bool | None = None
    """Whether the client's certificate verified; None where it presented none."""
    body_limit: int = 1024 * 1024
    """Octets of a message that it may ask for (Body_Limit)."""
    token: str | None = field(default=None, repr=False)
    admin_token: str | None = field(default=None, repr=False)

    @property
    def private(self) -> bool:
        """Whether nobody can listen on the way: only then a password or a body may take it."""
        return self.local or self.encrypted


class _End(Enum):
    GONE = "gone"


Gone = _End.GONE
"""In the place of an answer: the client is gone, and another one may be asked."""


@frozen(slots=True)
class Failed:
    """In the place of an answer: it cannot be used, and why."""

    reason: str


@define(slots=True, eq=False)
class Pending:
    """A question that waits for its answer."""

    question: Question
    done: trio.Event = field(factory=trio.Event)
    answer: Any = None
    """The result as it came, :data:`Gone` or :class:`Failed`."""

    def settle(self, answer: object) -> None:
        """Note the answer; the first one stands."""
        if not self.done.is_set():
            self.answer = answer
            self.done.set()


class ConnectedClient:
    """One client that is connected.  Whoever carries its frames takes them from ``outbox``."""

    def __init__(self, access: ClientAccess, limits: HubLimits, *, admin: bool, drop: Callable[[], None]) -> None:
        self.access = access
        self.admin = admin
        """Whether it showed the token for control requests."""
        self.outbox = Outbox(limits.queue, limits.queue_bytes, limits.outstanding, limits.urgent_bytes)
        self.registration: Registration | None = None
        self.connected = trio.current_time()
        self.malformed = 0
        self.timeouts = 0
        """In a row."""
        self.late = 0
        self.answered = 0
        self.control_requests = 0
        self.gone = False
        """Whether it was dropped: it is not asked any more."""
        self.reason = "closed"
        """Why it is gone, when it is."""
        self._limits = limits
        self._drop = drop
        self._pending: dict[str, Pending] = {}
        self._expired: OrderedDict[str, None] = OrderedDict()
        self._sent: OrderedDict[str, tuple[dict[str, str], dict[str, str]]] = OrderedDict()

    @property
    def name(self) -> str:
        """What it calls itself; ``""`` before it did."""
        return "" if self.registration is None else self.registration.name

    @property
    def outstanding(self) -> int:
        """Questions that it owes an answer to."""
        return len(self._pending)

    def drop(self, reason: str) -> None:
        """End it; whoever waits for an answer of it is told."""
        self.gone = True
        self.reason = reason
        self.release()
        self._drop()

    def release(self) -> None:
        """Tell whoever waits that no answer will come from here."""
        pending, self._pending = self._pending, {}
        for each in pending.values():
            each.settle(Gone)

    def send(self, text: str) -> None:
        """Send an answer to a request, or what must not be lost; a client that does not keep up is dropped."""
        if not self.outbox.put_urgent(frame(text.encode("ascii"))):
            self.drop("too slow: it does not read")

    # Questions

    def open_question(self, number: object) -> Question | None:
        """Return the question of that id, if this client owes its answer."""
        pending = self._pending.get(number) if isinstance(number, str) else None
        return None if pending is None else pending.question

    def ask(self, question: Question, deadline: float) -> Pending:
        """Send a question; ``deadline`` is on Trio's clock."""
        pending = Pending(question)
        if len(self._pending) >= self._limits.outstanding:
            pending.settle(Gone)
            self.drop("too slow: it answers too few questions")
            return pending
        text = self._question_text(question, deadline)
        self._pending[question.id] = pending
        self.send(text)
        return pending

    def _question_text(self, question: Question, deadline: float) -> str:
        registration = self.registration
        assert registration is not None, "who did not introduce itself is not asked"
        connection = registration.variables.of(question.variables)
        message = registration.message_variables.of(question.message_variables)
        shown: tuple[Mapping[str, str | None], Mapping[str, str | None]] = (connection, message)
        if registration.changed_only:
            before = self._sent.get(question.session)
            if before is not None:
                shown = _changes(before[0], connection), _changes(before[1], message)
            self._sent[question.session] = connection, message
            if len(self._sent) > 100_000:
                self._sent.popitem(last=False)
        arguments = dict(question.arguments)
        if question.password is not None and registration.decides and self.access.private:
            arguments["password"] = question.password
        params = {
            "session": question.session,
            "phase": question.phase,
            "peer": question.peer,
            "listener": question.listener,
            "variables": shown[0],
            "message_variables": shown[1],
            "arguments": arguments,
            "deadline_ms": max(0, round((deadline - trio.current_time()) * 1000)),
        }
        call = {"jsonrpc": "2.0", "id": question.id, "method": f"validate_{question.phase}", "params": params}
        return encode_json(call)

    def expire(self, question: str) -> None:
        """Wait no longer for the answer to ``question``."""
        if self._pending.pop(question, None) is not None:
            self._expired[question] = None
            # As many as it may owe: their answers may still come, and are late, not made up.
            if len(self._expired) > self._limits.outstanding:
                self._expired.popitem(last=False)

    def settle(self, question: object, answer: object) -> None:
        """Take the answer to a question.

        :raises ProtocolError: where this client was not asked it.
        """
        pending = self._pending.pop(question, None) if isinstance(question, str) else None
        if pending is not None:
            self.answered += 1
            pending.settle(answer)
        elif isinstance(question, str) and question in self._expired:
            del self._expired[question]
            self.late += 1
        else:
            raise ProtocolError(
                ErrorCode.INVALID_REQUEST, f"no question {str(question)[:80]!r} is open for this client"
            )

    def forget(self, session: str) -> None:
        """A session is over: forget what was sent of it."""
        self._sent.pop(session, None)


def _changes(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str | None]:
    """Give what is new or has changed, and None for what is gone."""
    changes: dict[str, str | None] = {name: value for name, value in now.items() if before.get(name) != value}
    changes.update((name, None) for name in before if name not in now)
    return changes
