"""How a step of a session is refused: the exception, and the event that reports it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from triosmtp.errors import Reject
from triosmtp.event import Refused
from triosmtp.message import Recipient
from triosmtp.policy import Session
from triosmtp.server.service import Service
from triosmtp.smtp import Address, Reply

if TYPE_CHECKING:
    from triosmtp.server.session.state import SessionState

__all__ = ["Refusal", "emit_refused", "refusal_of", "refuse", "send_refusal", "text_of_reply"]


class Refusal(Exception):  # noqa: N818 - how a step ends, not an error
    """A step was refused: the reply, who decided, and the reason for the log."""

    closes = False
    """Whether the connection ends after the reply, regardless of its code."""

    def __init__(self, reply: Reply, decided_by: str, reason: str) -> None:
        self.reply = reply
        self.decided_by = decided_by
        self.reason = reason
        super().__init__(reason)

    def without_traceback(self) -> "Refusal":
        """Return the refusal for a caller that keeps it.

        Its traceback would keep the frame that holds it, and with that the session, until the garbage collector runs.
        """
        self.__traceback__ = self.__context__ = None
        return self


def refusal_of(reject: Reject, decided_by: str) -> Refusal:
    """Return the refusal of a step for the :class:`~triosmtp.Reject` that a policy or a delivery raised."""
    reply = Reply(reject.code, reject.text, reject.enhanced)
    refusal = Refusal(reply, decided_by, reject.reason or reject.text)
    if reject.closes:
        refusal.closes = True
    return refusal


def text_of_reply(reply: Reply) -> str:
    """Return the text of a reply in one line."""
    return reply.text if isinstance(reply.text, str) else " ".join(reply.text)


def emit_refused(
    service: Service,
    session: Session,
    phase: str,
    refusal: Refusal,
    sender: Address | None = None,
    recipients: Iterable[Address | Recipient] = (),
) -> None:
    """Emit the event that a step of ``session`` was refused.

    ``sender`` and ``recipients`` are what it was about, if the current transaction does not say so.
    """
    reply, envelope = refusal.reply, session.envelope
    if envelope is not None and sender is None:
        sender = envelope.sender
        if phase == "data":
            recipients = envelope.recipients
    service.emit(
        Refused(
            session=session.info,
            phase=phase,
            code=reply.code,
            enhanced=reply.enhanced,
            text=text_of_reply(reply),
            decided_by=refusal.decided_by,
            reason=refusal.reason,
            variables=session.variables.snapshot(),
            message_variables=session.message_variables.snapshot(),
            sender=None if sender is None else str(sender),
            recipients=tuple(map(str, recipients)),
        )
    )


def refuse(
    state: "SessionState",
    phase: str,
    refusal: Refusal,
    sender: Address | None = None,
    recipients: Iterable[Address | Recipient] = (),
) -> bytes:
    """Report the refusal of a step, and return the reply."""
    emit_refused(state.service, state.session, phase, refusal, sender, recipients)
    return send_refusal(state, refusal)


def send_refusal(state: "SessionState", refusal: Refusal) -> bytes:
    """Return the reply of a refusal; after it the connection is closed if the refusal says so."""
    reply = state.connection.send(refusal.reply, by_limit=refusal.decided_by == "limit")
    if refusal.closes:
        state.connection.close()
    return reply
