"""A group of deciders: who of them is asked, what happens when none answers, and the circuit breaker."""

from collections import OrderedDict, deque
from typing import Any, Final

import trio

from triosmtp.histogram import Histogram
from triosmtp.policy.interface import Phase
from triosmtp.policy_service.connected_client import ConnectedClient, Failed, Gone, HubLimits
from triosmtp.policy_service.json_rpc import ProtocolError
from triosmtp.policy_service.question import Question, Verdict
from triosmtp.policy_service.registration import Registration
from triosmtp.policy_service.verdict_reader import read_verdict

__all__ = ["Group", "NoAnswerError"]

_STICKY: Final = 100_000
"""Sessions whose decider is remembered, at most."""
_LATENCIES: Final = 1000
_UNGUARDED: Final[frozenset[Phase]] = frozenset({"mailfrom"})
"""Where a group falls back that never had a decider."""


class NoAnswerError(Exception):
    """Nobody gave an answer that can be applied; the text says why."""


class Group:
    """The deciders of one name, and what is known of them."""

    def __init__(self, name: str, limits: HubLimits) -> None:
        self.name = name
        self._limits = limits
        self._deciders: list[ConnectedClient] = []
        self._last: list[Registration] = []  # of the deciders that are here, or were the last ones
        self._phases: frozenset[Phase] = _UNGUARDED  # theirs, together
        self._sticky: OrderedDict[str, ConnectedClient] = OrderedDict()
        self._timeouts_in_row = 0
        self._probe_at = 0.0
        self._latencies: deque[float] = deque(maxlen=_LATENCIES)
        self.latency = Histogram()
        """How long answers that could be applied took, in seconds."""
        self.kept = False
        """Whether a policy asks it: then it is remembered when its deciders are gone."""
        self.asked = 0
        self.answered = 0
        self.timeouts = 0
        self.invalid = 0
        self.fallbacks = 0

    # Members

    def join(self, link: ConnectedClient) -> None:
        """Take in a decider."""
        assert link.registration is not None, "a decider has introduced itself"
        if not self._deciders:
            self._last.clear()
            # Somebody new is a reason to ask again; but whoever comes back to hang again is asked once alone.
            self._timeouts_in_row = min(self._timeouts_in_row, self._limits.breaker_timeouts - 1)
        self._deciders.append(link)
        self._last.append(link.registration)
        self._phases = frozenset().union(*(each.phases for each in self._last))

    def leave(self, link: ConnectedClient) -> None:
        """Let go of a decider that is gone, if it was not yet."""
        if link not in self._deciders:
            return
        self._deciders.remove(link)
        if self._deciders and link.registration in self._last:
            self._last.remove(link.registration)
            self._phases = frozenset().union(*(each.phases for each in self._last))

    @property
    def empty(self) -> bool:
        """Whether no decider is left."""
        return not self._deciders

    def wants(self, phase: Phase) -> bool:
        """Whether anything may become of a question at ``phase``."""
        return phase in self._phases

    def forget(self, session: str) -> None:
        """A session is over."""
        self._sticky.pop(session, None)

    # Asking

    async def ask(self, question: Question, seconds: float) -> Verdict | None:
        """Ask a decider, within ``seconds``, and another one where that one dies; None where none wants to be asked.

        :raises NoAnswerError: where there is none, time runs out, or the answer cannot be applied.
        """
        if not self._deciders:
            self._check_absent(question)
            return None
        if self._pick(question) is None:
            return None
        now = trio.current_time()
        if self._timeouts_in_row >= self._limits.breaker_timeouts:
            if now < self._probe_at:
                raise NoAnswerError(f"the circuit breaker is open after {self._timeouts_in_row} time-outs in a row")
            self._probe_at = now + self._limits.breaker_seconds  # this question is the probe
        self.asked += 1
        deadline = now + seconds
        with trio.CancelScope(deadline=deadline):
            while (link := self._pick(question)) is not None:
                pending = link.ask(question, deadline)
                try:
                    await pending.done.wait()
                except trio.Cancelled:
                    self._give_up(link, question, timed_out=trio.current_time() >= deadline)
                    raise
                if pending.answer is Gone:
                    continue
                return self._read(pending.answer, question, link, now)
            raise NoAnswerError("no decider is left")
        self._timed_out(now)
        raise NoAnswerError(f"timed out after {seconds:g} s")

    def _check_absent(self, question: Question) -> None:
        known = self._last
        if known:
            absent = any(
                question.phase in each.phases and each.wants_session(question.peer, question.listener) for each in known
            )
        else:
            absent = question.phase in _UNGUARDED
        if absent:
            raise NoAnswerError("no decider")

    def _pick(self, question: Question) -> ConnectedClient | None:
        """Choose the decider that has the session already, or else the one that owes the fewest answers."""
        fit = [
            link
            for link in self._deciders
            if not link.gone
            and link.registration is not None
            and question.phase in link.registration.phases
            and link.registration.wants_session(question.peer, question.listener)
        ]
        if not fit:
            return None
        link = self._sticky.get(question.session)
        if link is None or link not in fit:
            link = min(fit, key=lambda each: each.outstanding)
            self._sticky[question.session] = link
            if len(self._sticky) > _STICKY:
                self._sticky.popitem(last=False)
        return link

    def _give_up(self, link: ConnectedClient, question: Question, *, timed_out: bool) -> None:
        link.expire(question.id)
        if not timed_out:
            return  # the session was cancelled: nobody was slow
        link.timeouts += 1
        if link.timeouts >= self._limits.client_timeouts and link in self._deciders:
            link.drop(f"too slow: {link.timeouts} time-outs in a row")

    def _timed_out(self, asked: float) -> None:
        self.timeouts += 1
        self._timeouts_in_row += 1
        self._probe_at = max(self._probe_at, asked + self._limits.breaker_seconds)

    def _read(self, answer: Any, question: Question, link: ConnectedClient, asked: float) -> Verdict:
        link.timeouts = self._timeouts_in_row = 0
        if isinstance(answer, Failed):
            self.invalid += 1
            raise NoAnswerError(f"{link.name} answered with an error: {answer.reason}")
        try:
            verdict = read_verdict(answer, question, f"websocket:{self.name}/{link.name}")
        except ProtocolError as error:
            self.invalid += 1
            raise NoAnswerError(f"{link.name} gave an answer that cannot be applied: {error.message}") from None
        self.answered += 1
        seconds = trio.current_time() - asked
        self._latencies.append(seconds)
        self.latency.observe(seconds)
        return verdict

    # Looking at it

    def status(self) -> dict[str, Any]:
        """Give what an operator wants to know, as plain values; latencies are of the last answers, in milliseconds."""
        latencies = sorted(self._latencies)
        return {
            "group": self.name,
            "deciders": len(self._deciders),
            "phases": sorted(self._phases) if self._last else [],
            "outstanding": sum(link.outstanding for link in self._deciders),
            "asked": self.asked,
            "answered": self.answered,
            "timeouts": self.timeouts,
            "invalid": self.invalid,
            "fallbacks": self.fallbacks,
            "breaker": "open" if self._timeouts_in_row >= self._limits.breaker_timeouts else "closed",
            "latency_ms": {f"p{p}": _percentile(latencies, p) for p in (50, 99)},
        }


def _percentile(values: list[float], percent: int) -> float | None:
    return None if not values else round(values[min(len(values) - 1, len(values) * percent // 100)] * 1000, 3)
