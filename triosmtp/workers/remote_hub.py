"""The hub as the sessions of a worker see it: what they ask, and what became of it, goes to the supervisor."""

from triosmtp.policy import Phase
from triosmtp.policy_service.hub import Hub
from triosmtp.policy_service.question import Fallback, Interest, Outcome, Question, Verdict, fallback_verdict
from triosmtp.workers.channel import Channel, ChannelClosedError

__all__ = ["RemoteHub"]


class RemoteHub(Hub):
    """Asks the hub at the other end of ``channel``.

    What that one wants is kept here as a value, so that what nobody wants costs nothing.  It may say too much for a
    moment, never too little: a client is told that it is in when every worker knows.
    """

    def __init__(self, channel: Channel, interest: Interest) -> None:
        super().__init__()
        self._channel = channel
        self.subscription.change(())  # every event goes to the hub at the other end
        self.apply(interest)

    def apply(self, interest: Interest) -> None:
        """Ask and tell what ``interest`` says from now on."""
        self._interest = interest
        self.outcome_phases = interest.outcomes
        self.recorded_octets = interest.recorded_octets

    def wants(self, group: str, phase: Phase) -> bool:
        """Whether anything may become of a question to ``group`` at ``phase``."""
        phases = self._interest.groups.get(group)
        return super().wants(group, phase) if phases is None else phase in phases

    async def decide(self, group: str, question: Question, *, timeout: float, fallback: Fallback) -> Verdict:  # noqa: ASYNC109 - it is given to the clients
        """Have ``group`` decide, as :meth:`triosmtp.policy_service.hub.Hub.decide` does."""
        try:
            verdict: Verdict = await self._channel.call("decide", group, question, timeout, fallback)
        except ChannelClosedError:
            return fallback_verdict(group, question, fallback, "the supervisor is gone")
        return verdict

    def report_outcome(self, question: Question, outcome: Outcome) -> None:
        """Tell what became of a phase."""
        self._channel.post("ended", question, outcome)
