"""What the server asks of a delivery, and how a delivery says 'not now'."""

import abc

from triosmtp.errors import TrioSMTPError
from triosmtp.message import Message

__all__ = ["Delivery", "DeliveryError"]


class DeliveryError(TrioSMTPError):
    """The message could not be delivered now; the client keeps it and comes back.

    ``reason`` is for the log.  ``storage`` tells that our own storage failed: the peer then gets 452 4.3.1, otherwise
    451 4.3.0 (RFC 5321, section 4.2.2; RFC 3463).  ``code``, ``enhanced`` and ``text`` are that answer.
    """

    def __init__(self, reason: str, *, storage: bool = False) -> None:
        self.reason = reason
        self.storage = storage
        self.code = 452 if storage else 451
        self.enhanced = "4.3.1" if storage else "4.3.0"
        self.text = "Insufficient system storage" if storage else "Temporary failure, please try again later"
        super().__init__(reason)


class Delivery(abc.ABC):
    """A place where accepted mail goes.  ``str()`` of one names it, for logs.

    One delivery serves many sessions at once, so ``deliver`` may run several times side by side.
    """

    honours: frozenset[str] = frozenset()
    """The extensions whose promises it keeps, by their EHLO keywords: of DSN (RFC 3461), BINARYMIME (RFC 3030),
    REQUIRETLS (RFC 8689), DELIVERBY (RFC 2852), MT-PRIORITY (RFC 6710) and FUTURERELEASE (RFC 4865).

    A listener offers none of these that its delivery does not honour.  To honour one is to do what its RFC asks of
    whoever took the message, or to pass the parameter on to somebody who does.
    """

    @abc.abstractmethod
    async def deliver(self, message: Message) -> None:
        """Deliver ``message`` to all its recipients.

        To return is to take responsibility (RFC 5321, section 6.1): the message is then as durable as the operator
        asked for, and the client is told 250.  The body stays the caller's, to be read here and not to be closed.

        It may be cancelled, at the end of Drain_Timeout for example; the client is then told 421 and sends the message
        again.  So no await that can be cancelled may follow the one that made the message durable.  A message that was
        returned for is answered 250 in any case.

        :raises Reject: to refuse the message with an answer of the delivery's own.
        :raises DeliveryError: where it cannot be done now.
        """

    async def aclose(self) -> None:  # noqa: B027 - most deliveries hold nothing
        """Let go of what the delivery holds; nothing is delivered afterwards.  May be called again."""

    def __str__(self) -> str:
        return type(self).__name__.lower()
