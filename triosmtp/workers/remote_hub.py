"""The policy hub in a worker: questions and outcomes are sent to the supervisor's hub."""

from collections.abc import Callable

from triosmtp.event import Observer
from triosmtp.policy import Phase
from triosmtp.policy_service.filter_registry import (
    FilterAnswer,
    FilterClient,
    FilterFigures,
    FilterKey,
    FilterQuestion,
    FilterRegistry,
    FilterUse,
)
from triosmtp.policy_service.hub import Hub
from triosmtp.policy_service.hub_limits import HubLimits
from triosmtp.policy_service.question import Fallback, Interest, Outcome, Question, Verdict, fallback_verdict
from triosmtp.workers.channel import Channel, ChannelClosedError
from triosmtp.workers.worker_messages import AdmitFilter, AskFilter, Decide, FilterUsed, PhaseEnded

__all__ = ["RemoteHub"]


class RemoteFilters(FilterRegistry):
    """Asks the filters of the supervisor through ``channel``: that process has the connections, or the figures."""

    def __init__(self, limits: HubLimits, emit: Observer, channel: Channel) -> None:
        super().__init__(limits, emit)
        self._channel = channel

    def add(self, key: FilterKey, make: Callable[[FilterKey, HubLimits], FilterClient | FilterFigures]) -> None:
        """Ignore it: the supervisor has the client."""

    async def ask(self, question: FilterQuestion) -> FilterAnswer:
        """Ask a filter, as :meth:`triosmtp.policy_service.filter_registry.FilterRegistry.ask` does."""
        try:
            return await self._channel.request(AskFilter(question))
        except ChannelClosedError:
            return FilterAnswer(failure="the supervisor is gone")

    async def admit(self, key: FilterKey) -> str:
        """Ask whether a session may ask a filter itself now."""
        try:
            return await self._channel.request(AdmitFilter(key))
        except ChannelClosedError:
            return "the supervisor is gone"

    def report(self, use: FilterUse) -> None:
        """Send what a session reports."""
        self._channel.send(FilterUsed(use))


class RemoteHub(Hub):
    """Asks the supervisor's hub through ``channel``.

    The interest of the policy clients is kept here, so that a phase without interest costs nothing.  For a moment it
    may contain too much, but never too little: a client is registered when every worker knows its interest.
    """

    def __init__(self, channel: Channel, interest: Interest) -> None:
        super().__init__()
        self._channel = channel
        self.filters = RemoteFilters(self.limits, self._emit, channel)
        self.subscription.change(())  # the supervisor's hub receives every event
        self.apply(interest)

    def apply(self, interest: Interest) -> None:
        """Ask the questions and send the outcomes of ``interest`` from now on."""
        self._interest = interest
        self.outcome_phases = interest.outcomes
        self.recorded_octets = interest.recorded_octets

    def wants(self, group: str, phase: Phase) -> bool:
        """Return whether a question to ``group`` at ``phase`` can have an effect."""
        phases = self._interest.groups.get(group)
        return super().wants(group, phase) if phases is None else phase in phases

    async def decide(self, group: str, question: Question, *, timeout: float, fallback: Fallback) -> Verdict:  # noqa: ASYNC109 - the supervisor passes it to its clients
        """Ask ``group``, as :meth:`triosmtp.policy_service.hub.Hub.decide` does."""
        try:
            return await self._channel.request(Decide(group, question, timeout, fallback))
        except ChannelClosedError:
            return fallback_verdict(group, question, fallback, "the supervisor has ended")

    def report_outcome(self, question: Question, outcome: Outcome) -> None:
        """Send the outcome of a phase."""
        self._channel.send(PhaseEnded(question, outcome))
