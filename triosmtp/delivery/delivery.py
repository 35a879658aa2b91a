"""The base class of deliveries, and the error for a temporary failure."""

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING

from triosmtp.delivery.delivery_transaction import DeliveryTransaction
from triosmtp.delivery.recipient_result import DELIVERED, RecipientResult
from triosmtp.errors import Reject, TrioSMTPError

if TYPE_CHECKING:  # `triosmtp check` makes no message
    from triosmtp.message import Envelope, Message, Origin

__all__ = ["Delivery", "DeliveryError", "is_probed"]


class DeliveryError(TrioSMTPError):
    """The message could not be delivered now; the client keeps it and tries again.

    ``reason`` is for the log.  If ``storage`` is set, the storage of this server failed, and the client gets 452 4.3.1;
    otherwise it gets 451 4.3.0 (RFC 5321, section 4.2.2; RFC 3463).  The reply is ``code``, ``enhanced`` and ``text``.
    """

    def __init__(self, reason: str, *, storage: bool = False) -> None:
        self.reason = reason
        self.storage = storage
        self.code = 452 if storage else 451
        self.enhanced = "4.3.1" if storage else "4.3.0"
        self.text = "Insufficient system storage" if storage else "Temporary failure, please try again later"
        super().__init__(reason)


class Delivery(abc.ABC):
    """A destination of accepted mail.  ``str()`` of a delivery is its name in logs.

    One delivery serves many sessions, so several calls of ``deliver`` may run at the same time.
    """

    honours: frozenset[str] = frozenset()
    """The extensions that it honours, by their EHLO keywords: of DSN (RFC 3461), BINARYMIME (RFC 3030),
    REQUIRETLS (RFC 8689), DELIVERBY (RFC 2852), MT-PRIORITY (RFC 6710) and FUTURERELEASE (RFC 4865).

    A listener offers none of these that its delivery does not honour.  To honour an extension is to do what its RFC
    requires of a server that accepted the message, or to pass the parameter on to a server that does.
    """

    @property
    def may_honour(self) -> frozenset[str]:
        """The extensions that it may honour at some time; :attr:`honours` has those that it honours now."""
        return self.honours

    verifies: bool = False
    """Whether it can be asked about recipients at RCPT: whether :meth:`begin` returns a transaction."""
    splits: bool = False
    """Whether recipients of one message may have different results: whether it has its own :meth:`deliver_each`."""
    wants_origin: bool = False
    """Whether it uses :attr:`Message.origin`."""

    @abc.abstractmethod
    async def deliver(self, message: "Message") -> str | None:
        """Deliver ``message`` to all its recipients: the octets of ``message.trace``, then those of ``message.body``.

        The result is what the target answered, for the log: the id that it gave the message, for example.

        To return is to take responsibility (RFC 5321, section 6.1): the message is then as durable as the operator
        configured, and the client gets 250.  The caller owns the body: read it here, but do not close it.

        The call may be cancelled, at the end of Drain_Timeout for example.  The client then gets 421 and sends the
        message again.  So no await that can be cancelled may follow the one that made the message durable.  Once this
        method has returned, the client gets 250 in any case.

        :raises Reject: to refuse the message with a reply of its own.
        :raises DeliveryError: if the message cannot be delivered now.
        """

    async def deliver_each(self, message: "Message") -> Sequence[RecipientResult]:
        """Deliver ``message``, and return the result of each of its recipients, in their order.

        By default all have the result of :meth:`deliver`.  A delivery overrides it if recipients may have different
        results.  It raises only cancellation.
        """
        result = DELIVERED
        try:
            if (answer := await self.deliver(message)) is not None:
                result = RecipientResult(250, answer=answer)
        except Reject as reject:
            result = RecipientResult.of_reject(reject)
        except DeliveryError as error:
            result = RecipientResult(error.code, error.enhanced, error.text, error.reason)
        return (result,) * len(message.envelope.recipients)

    def begin(self, envelope: "Envelope", origin: "Origin") -> DeliveryTransaction:
        """Begin a transaction, for the first recipient of a message; nothing is sent yet.

        ``envelope`` is that of the client, with the recipients that were accepted so far.

        :raises NotImplementedError: if the delivery does not verify recipients.
        """
        raise NotImplementedError(f"{self} does not verify recipients")

    async def run(self) -> None:  # noqa: B027 - most deliveries have nothing to do
        """Run the background task of the delivery until cancelled; by default there is none.

        The server calls it once, in a task of its own, before the first message; but that may come at any time after.
        :meth:`aclose` follows when it has been cancelled.
        """

    async def find_problems(self) -> Sequence[str]:
        """Ask the target whether it is set up in such a way that it keeps what it accepts, and return what is wrong.

        A server that starts or reloads calls it, and does not accept a configuration with problems.  A target that does
        not answer within some seconds is no problem: the result is then empty.
        """
        return ()

    async def probe(self) -> str:
        """Find out whether the target is available: return ``""``, or why it is not.

        It is called while a target fails, every 5 to 60 s (see :class:`~triosmtp.delivery.TargetHealth`).
        """
        return ""

    async def aclose(self) -> None:  # noqa: B027 - most deliveries hold nothing
        """Release the resources of the delivery; nothing is delivered afterwards.  May be called again."""

    def __str__(self) -> str:
        return type(self).__name__.lower()


def is_probed(delivery: Delivery) -> bool:
    """Return whether it has a probe: whether the target can be unavailable, and be found available again."""
    return type(delivery).probe is not Delivery.probe
