"""How a step of a session is refused, and how policies are asked at one."""

from triosmtp.errors import Reject
from triosmtp.event import PolicyFailed
from triosmtp.policy import Chain, Decision, Phase, Session
from triosmtp.server.service import Service
from triosmtp.smtp import Reply

__all__ = ["Refusal", "ask", "refusal_of"]


class Refusal(Exception):  # noqa: N818 - how a step ends, not an error
    """A step was refused: the reply, who decided, and the reason for the log."""

    def __init__(self, reply: Reply, decided_by: str, reason: str) -> None:
        self.reply = reply
        self.decided_by = decided_by
        self.reason = reason
        super().__init__(reason)


def refusal_of(reject: Reject, decided_by: str) -> Refusal:
    """Give the refusal of a step for the :class:`~triosmtp.Reject` that somebody raised."""
    reply = Reply(reject.code, reject.text, reject.enhanced)
    return Refusal(reply, decided_by, reject.reason or reject.text)


async def ask(service: Service, session: Session, chain: Chain, phase: Phase, *arguments: object) -> Decision:
    """Ask the policies of ``chain`` at ``phase``.

    :raises Refusal: where one of them refuses, or fails.
    """
    decision = await chain.ask(phase, session, *arguments)
    if decision.error:
        service.tell(PolicyFailed(session.id, phase, decision.source, decision.error))
    if decision.refusal is not None:
        raise refusal_of(decision.refusal, decision.source)
    return decision
