"""How a step of a session is refused, and how policies are asked at one."""

import logging
from collections.abc import Iterable

from triosmtp.errors import Reject
from triosmtp.event import PolicyFailed, Refused
from triosmtp.message import Recipient
from triosmtp.policy import Chain, Decision, Phase, Session
from triosmtp.policy_service.hub_policy import question_of
from triosmtp.policy_service.messages import Excerpt, Outcome
from triosmtp.server.service import Service
from triosmtp.smtp import Address, Reply

__all__ = ["Refusal", "ask", "refusal_of", "tell_ended", "tell_refused"]

_log = logging.getLogger("triosmtp.server")


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
        failure = PolicyFailed(session=session.info, phase=phase, policy=decision.source, error=decision.error)
        service.emit(failure)
    if decision.refusal is not None:
        raise refusal_of(decision.refusal, decision.source)
    return decision


def tell_ended(
    service: Service,
    session: Session,
    phase: Phase,
    refusal: Refusal | None,
    *arguments: object,
    discarded_by: str = "",
    excerpt: Excerpt | None = None,
) -> None:
    """Tell the hub what became of a phase, if a client of the hub wants to know; ``arguments`` are the policies'.

    ``discarded_by`` names the policy that had the message thrown away which the phase has accepted;
    ``excerpt`` is what a recording gets of the message.

    The outcome is settled by then.  So a failure here is logged, and changes no reply.
    """
    try:
        if phase in service.hub.outcome_phases:
            service.hub.ended(question_of(phase, session, *arguments), _outcome(refusal, discarded_by, excerpt))
    except Exception:  # noqa: BLE001 - whatever it is, it is not the session's fault
        _log.exception("session %s: policy clients were not told the outcome of %s", session.id, phase)


def _outcome(refusal: Refusal | None, discarded_by: str, excerpt: Excerpt | None) -> Outcome:
    if refusal is None:
        return Outcome(decision="accepted", decided_by=discarded_by, excerpt=excerpt)
    reply = refusal.reply
    text = reply.text if isinstance(reply.text, str) else " ".join(reply.text)
    return Outcome(
        decision="refused",
        code=reply.code,
        enhanced=reply.enhanced,
        text=text,
        decided_by=refusal.decided_by,
        excerpt=excerpt,
    )


def tell_refused(
    service: Service,
    session: Session,
    phase: str,
    refusal: Refusal,
    sender: Address | None = None,
    recipients: Iterable[Address | Recipient] = (),
) -> None:
    """Tell that a step of ``session`` was refused.

    ``sender`` and ``recipients`` are what it was about, if the transaction under way does not say so.
    """
    reply, envelope = refusal.reply, session.envelope
    if envelope is not None and sender is None:
        sender = envelope.sender
        if phase == "data":
            recipients = envelope.recipients
    text = reply.text if isinstance(reply.text, str) else " ".join(reply.text)
    service.emit(
        Refused(
            session=session.info,
            phase=phase,
            code=reply.code,
            enhanced=reply.enhanced,
            text=text,
            decided_by=refusal.decided_by,
            reason=refusal.reason,
            variables=session.variables.snapshot(),
            message_variables=session.message_variables.snapshot(),
            sender=None if sender is None else str(sender),
            recipients=tuple(map(str, recipients)),
        )
    )
