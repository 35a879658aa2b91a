"""The choice of a target for one recipient: what ``deliver_to`` means while policies decide about it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from triosmtp.policy.policy_session import Session
from triosmtp.variables import DELIVER_TO

if TYPE_CHECKING:
    from triosmtp.message import Message, Recipient

__all__ = ["choice_for_recipient"]


@contextmanager
def choice_for_recipient(session: Session, message: "Message", recipient: "Recipient") -> Iterator[None]:
    """Let ``deliver_to`` be for one recipient in this block, in which policies of every kind are asked about it.

    They see what was chosen for the message, and for this recipient so far.  A change is kept in the message, and the
    next recipient finds the choice for the message again.
    """
    variables = session.message_variables
    before = variables.get(DELIVER_TO)
    try:
        yield
    finally:
        chosen = variables.get(DELIVER_TO)
        if chosen != before:
            message.choose_target(recipient, chosen)
            variables.apply({DELIVER_TO: before})
