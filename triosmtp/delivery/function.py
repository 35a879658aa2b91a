"""Hands mail to a program's own async function."""

import logging
from collections.abc import Awaitable, Callable, Iterable

from triosmtp.delivery.interface import Delivery, DeliveryError
from triosmtp.errors import Reject
from triosmtp.message import Message

__all__ = ["FunctionDelivery"]

_log = logging.getLogger("triosmtp.delivery")


class FunctionDelivery(Delivery):
    """Delivers by calling ``function(message)``.

    When it returns, the message is accepted.  It may raise :class:`Reject` and :class:`DeliveryError`; any other
    exception is logged with its traceback and means 'not now' (451 4.3.0), so that a bug loses no mail.

    ``honours`` names the extensions whose promises the function keeps (see :attr:`Delivery.honours`).
    """

    def __init__(self, function: Callable[[Message], Awaitable[None]], *, honours: Iterable[str] = ()) -> None:
        self._function = function
        self.honours = frozenset(each.upper() for each in honours)

    async def deliver(self, message: Message) -> None:
        """Call the function."""
        try:
            await self._function(message)
        except (Reject, DeliveryError):
            raise
        except Exception as error:
            _log.exception("%s: message %s not delivered", self, message.id)
            raise DeliveryError(f"{self}: {type(error).__name__}: {error}") from error

    def __str__(self) -> str:
        return f"function {getattr(self._function, '__qualname__', repr(self._function))}"
