"""A group of deciders: the choice of the decider that is asked, the failures, and the circuit breaker."""

from collections import OrderedDict, deque
from typing import Any, Final

import trio

from triosmtp.histogram import Histogram
from triosmtp.policy.interface import Phase
from triosmtp.policy_service.circuit_breaker import CircuitBreaker, NoAnswerError
from triosmtp.policy_service.connected_client import CLIENT_GONE, CloseReason, ConnectedClient, FailedAnswer
from triosmtp.policy_service.filter_registry import LATENCIES, percentiles
from triosmtp.policy_service.hub_limits import HubLimits
from triosmtp.policy_service.json_rpc import ProtocolError
from triosmtp.policy_service.question import Question, Verdict, decider_source
from triosmtp.policy_service.registration import Registration
from triosmtp.policy_service.verdict_reader import read_verdict

__all__ = ["DeciderGroup", "NoAnswerError"]

_MAX_STICKY: Final = 100_000
"""Sessions whose decider is remembered."""
_DEFAULT_PHASES: Final[frozenset[Phase]] = frozenset({"mailfrom"})
"""The phases at which a group falls back that never had a decider."""


class DeciderGroup:
    """The deciders that registered with one name of a group, and their statistics."""

    def __init__(self, name: str, limits: HubLimits) -> None:
        self.name = name
        self._limits = limits
        self._deciders: list[ConnectedClient] = []
        self._registrations: list[Registration] = []  # of the connected deciders, or of the last ones
        self._phases: frozenset[Phase] = _DEFAULT_PHASES  # the union of their phases
        self._sticky: OrderedDict[str, ConnectedClient] = OrderedDict()
        self._breaker = CircuitBreaker(limits.breaker_timeouts, limits.breaker_seconds)
        self._latencies: deque[float] = deque(maxlen=LATENCIES)
        self.latency = Histogram()
        """The time until an answer that can be applied, in seconds."""
        self.is_configured = False
        """Whether a policy asks the group.  Then the hub keeps it when its last decider disconnects."""
        self.asked = 0
        self.answered = 0
        self.timeouts = 0
        self.invalid = 0
        self.fallbacks = 0

    # Members

    def add(self, client: ConnectedClient) -> None:
        """Add a decider."""
        assert client.registration is not None, "a decider is registered"
        if not self._deciders:
            self._registrations.clear()
            # A new decider is asked although the breaker is open, but only once if it hangs as well.
            self._breaker.allow_probe()
        self._deciders.append(client)
        self._registrations.append(client.registration)
        self._phases = frozenset().union(*(each.phases for each in self._registrations))

    def remove(self, client: ConnectedClient) -> None:
        """Remove a decider, if it is still a member."""
        if client not in self._deciders:
            return
        self._deciders.remove(client)
        if self._deciders and client.registration in self._registrations:
            self._registrations.remove(client.registration)
            self._phases = frozenset().union(*(each.phases for each in self._registrations))

    @property
    def empty(self) -> bool:
        """Whether no decider is left."""
        return not self._deciders

    def wants(self, phase: Phase) -> bool:
        """Return whether a question at ``phase`` may have an effect."""
        return phase in self._phases

    def forget_session(self, session: str) -> None:
        """Forget the decider of a session that has ended."""
        self._sticky.pop(session, None)

    # Asking

    async def ask(self, question: Question, seconds: float) -> Verdict | None:
        """Ask a decider, and the next one if it disconnects, within ``seconds``; return None if none wants the phase.

        :raises NoAnswerError: if there is no decider, the time is up, or the answer cannot be applied.
        """
        if not self._deciders:
            self._check_absent(question)
            return None
        client = self._choose_decider(question)
        if client is None:
            return None
        now = trio.current_time()
        self._breaker.admit(now)
        self.asked += 1
        deadline = now + seconds
        with trio.CancelScope(deadline=deadline):
            while client is not None:
                pending = client.ask(question, deadline)
                try:
                    await pending.done.wait()
                except trio.Cancelled:
                    self._expire(client, question, timed_out=trio.current_time() >= deadline)
                    raise
                if pending.answer is not CLIENT_GONE:
                    return self._read_answer(pending.answer, question, client, now)
                client = self._choose_decider(question)
            raise NoAnswerError("no decider is left")
        self.timeouts += 1
        self._breaker.record_timeout(now)
        raise NoAnswerError(f"timed out after {seconds:g} s")

    def _check_absent(self, question: Question) -> None:
        known = self._registrations
        if known:
            absent = any(
                question.phase in each.phases and each.wants_session(question.peer, question.listener) for each in known
            )
        else:
            absent = question.phase in _DEFAULT_PHASES
        if absent:
            raise NoAnswerError("no decider")

    def _choose_decider(self, question: Question) -> ConnectedClient | None:
        """Return the decider that has had the session before, or else the one with the fewest open questions."""
        client = self._sticky.get(question.session)
        if client is not None and client in self._deciders and _can_decide(client, question):
            return client
        able = [each for each in self._deciders if _can_decide(each, question)]
        if not able:
            return None
        client = self._sticky[question.session] = min(able, key=lambda each: each.outstanding)
        if len(self._sticky) > _MAX_STICKY:
            self._sticky.popitem(last=False)
        return client

    def _expire(self, client: ConnectedClient, question: Question, *, timed_out: bool) -> None:
        client.expire_question(question.id)
        if not timed_out:
            return  # the session was cancelled: the decider is not slow
        client.timeouts += 1
        if client.timeouts >= self._limits.client_timeouts and client in self._deciders:
            client.drop(CloseReason(f"too slow: {client.timeouts} time-outs in a row"))

    def _read_answer(self, answer: Any, question: Question, client: ConnectedClient, asked_at: float) -> Verdict:
        client.timeouts = 0
        self._breaker.record_answer()
        if isinstance(answer, FailedAnswer):
            self.invalid += 1
            raise NoAnswerError(f"{client.name} answered with an error: {answer.reason}")
        try:
            verdict = read_verdict(answer, question, decider_source(self.name, client.name))
        except ProtocolError as error:
            self.invalid += 1
            raise NoAnswerError(f"{client.name} gave an answer that cannot be applied: {error.message}") from None
        self.answered += 1
        seconds = trio.current_time() - asked_at
        self._latencies.append(seconds)
        self.latency.observe(seconds)
        return verdict

    # Status

    def status(self) -> dict[str, Any]:
        """Return the status for an operator as plain values.  Latencies of the last answers are in milliseconds."""
        return {
            "group": self.name,
            "deciders": len(self._deciders),
            "phases": sorted(self._phases) if self._registrations else [],
            "outstanding": sum(client.outstanding for client in self._deciders),
            "asked": self.asked,
            "answered": self.answered,
            "timeouts": self.timeouts,
            "invalid": self.invalid,
            "fallbacks": self.fallbacks,
            "breaker": "open" if self._breaker.is_open else "closed",
            "latency_ms": percentiles(self._latencies),
        }


def _can_decide(client: ConnectedClient, question: Question) -> bool:
    registration = client.registration
    return (
        not client.dropped
        and registration is not None
        and question.phase in registration.phases
        and registration.wants_session(question.peer, question.listener)
    )
