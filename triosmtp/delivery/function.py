"""Delivery to an async function of the embedding program."""

import logging
from collections.abc import Awaitable, Callable, Iterable
from inspect import signature
from typing import TYPE_CHECKING

from triosmtp.delivery.delivery import Delivery, DeliveryError
from triosmtp.errors import Reject
from triosmtp.module_loader import is_failure

if TYPE_CHECKING:  # `triosmtp check` makes no message
    from triosmtp.message import Message

__all__ = ["FunctionDelivery"]

_log = logging.getLogger("triosmtp.delivery")


class FunctionDelivery(Delivery):
    """Delivers by calling ``function(message)``.

    When it returns, the message is accepted.  It may raise :class:`Reject` and :class:`DeliveryError`.  After any other
    exception the client gets 451 4.3.0 and the traceback is logged, so that a bug loses no mail.

    ``honours`` names the extensions that the function honours (see :attr:`Delivery.honours`).  ``name`` is the name in
    logs; by default ``function``, a space and the name of the function.

    :raises TypeError: if the function cannot be called with one argument.
    """

    def __init__(
        self, function: "Callable[[Message], Awaitable[None]]", *, honours: Iterable[str] = (), name: str = ""
    ) -> None:
        self._name = name or f"function {getattr(function, '__qualname__', repr(function))}"
        _check_signature(function, self._name)
        self._function = function
        self.honours = frozenset(each.upper() for each in honours)

    async def deliver(self, message: "Message") -> None:
        """Call the function."""
        try:
            await self._function(message)
        except (Reject, DeliveryError):
            raise
        except BaseException as error:
            if not is_failure(error):
                raise
            _log.exception("%s: message %s not delivered", self, message.id)
            raise DeliveryError(f"{self}: {type(error).__name__}: {error}") from error

    def __str__(self) -> str:
        return self._name


def _check_signature(function: Callable[..., object], name: str) -> None:
    """Check that ``function`` takes a message and needs nothing else.

    :raises TypeError: with the parameters of the function.
    """
    try:
        found = signature(function)
    except ValueError:
        return  # written in C, without a signature
    try:
        found.bind(None)
    except TypeError as error:
        raise TypeError(f"{name} takes {found}, and is called with one argument, the message: {error}") from None
