"""One message on its way to one target: from its first recipient on, for targets that are asked at RCPT."""

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING

from triosmtp.delivery.recipient_result import RecipientResult

if TYPE_CHECKING:  # `triosmtp check` makes no message
    from triosmtp.message import Message, Recipient

__all__ = ["DeliveryTransaction"]


class DeliveryTransaction(abc.ABC):
    """One message of one client at one target.

    The session makes it (:meth:`Delivery.begin`) at the first recipient that it accepted for the target, so policy and
    the relay rules have spoken.  The methods are never called at the same time, and raise only
    cancellation: a failure is a result.
    """

    @abc.abstractmethod
    async def verify(self, recipient: "Recipient") -> RecipientResult:
        """Ask the target about one more recipient, and return its answer for the client at RCPT.

        A positive answer without a text is given in the words of the server.  A refused recipient is not delivered to.
        """

    @abc.abstractmethod
    async def deliver_each(self, message: "Message") -> Sequence[RecipientResult]:
        """Deliver ``message`` to all of its recipients, and return the result of each, in their order.

        It is called once for each variant of the message.  Sender, parameters and recipients may differ from what was
        verified: then the target must be asked again.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """End the transaction at the target, and release what it holds.  May be called again, and at any time."""
