"""The hub as the sessions of a worker see it: what they ask, and what became of it, goes to the supervisor."""

from triosmtp.event import ServerEvent
from triosmtp.policy import Phase
from triosmtp.policy_service.hub import Hub
from triosmtp.policy_service.messages import Fallback, Interest, Outcome, Question, Verdict, fallback_verdict
from triosmtp.workers.channel import Channel, ChannelClosedError

__all__ = ["DistantHub"]


class DistantHub(Hub):
    """Asks the hub at the other end of ``channel``.

    What that one wants is kept here as a value, so that what nobody wants costs nothing.  It may say too much for a
    moment, never too little: a client is told that it is in when every worker knows.
    """

    def __init__(self, channel: Channel, interest: Interest) -> None:
        super().__init__()
        self._channel = channel
        self._interest = interest

    def follow(self, interest: Interest) -> None:
        """Take up what the hub wants from now on."""
        self._interest = interest

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

    def wants_outcome(self, phase: Phase) -> bool:
        """Whether somebody wants to know what becomes of ``phase``."""
        return phase in self._interest.outcomes

    @property
    def recorded_octets(self) -> int:
        """How many octets of each message somebody records."""
        return self._interest.recorded_octets

    def ended(self, question: Question, outcome: Outcome) -> None:
        """Tell what became of a phase."""
        self._channel.post("ended", question, outcome)

    def observe(self, event: ServerEvent) -> None:
        """Leave that to the hub: every event goes there."""
