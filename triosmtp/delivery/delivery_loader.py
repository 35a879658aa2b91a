"""Makes the delivery that Deliver_To names: ``maildir:/path``, ``discard:``, ``python:package.module:function``."""

from collections.abc import Callable
from inspect import iscoroutinefunction, unwrap
from pathlib import Path
from typing import Any

from triosmtp.delivery.delivery import Delivery
from triosmtp.delivery.discard import Discard
from triosmtp.delivery.function import FunctionDelivery
from triosmtp.delivery.maildir import Maildir
from triosmtp.module_loader import ModuleLoader, as_value_error

__all__ = ["load_delivery", "parse_delivery"]


def parse_delivery(specification: str) -> Delivery:
    """Return the delivery that ``specification`` names, ``SCHEME:ARGUMENT``; nothing is opened or made yet.

    :raises ValueError: if the scheme is unknown (the message lists those known) or its argument is invalid.
    """
    scheme, colon, argument = specification.partition(":")
    make = _SCHEMES.get(scheme.lower()) if colon else None
    if make is None:
        known = ", ".join(f"{name}:{example}" for name, example in _EXAMPLES.items())
        raise ValueError(f"unknown delivery {specification!r}: expected one of {known}")
    return make(argument)


def load_delivery(loader: ModuleLoader, specification: str) -> Delivery:
    """Import the delivery that ``specification`` names, ``python:package.module:name``.  Blocks.

    The name may be that of an async function (or other callable) of one argument.  It may also be a class derived from
    :class:`Delivery`, which is called without arguments.

    :raises ValueError: if there is no such module or name, or if it is something else.
    """
    found: Any = loader.find(specification)
    if isinstance(found, type) and issubclass(found, Delivery):
        with as_value_error(specification):
            delivery: Delivery = found()
        return delivery
    if not _is_async(found):
        expected = "an async function of one argument, or a class derived from triosmtp.Delivery"
        raise ValueError(f"{specification!r} is not {expected}: {found!r}")
    with as_value_error(specification):
        return FunctionDelivery(found, name=specification)


def _is_async(found: Any) -> bool:
    if isinstance(found, type):
        return False  # to call it makes an object, and delivers nothing
    return iscoroutinefunction(unwrap(found)) or iscoroutinefunction(getattr(type(found), "__call__", None))  # noqa: B004


def _maildir(argument: str) -> Delivery:
    if not argument.startswith("/") or "\x00" in argument:
        raise ValueError(f"maildir: needs an absolute path, as in maildir:/var/mail/in, not {argument!r}")
    return Maildir(Path(argument))


def _discard(argument: str) -> Delivery:
    if argument:
        raise ValueError(f"discard: takes no argument, and {argument!r} was given")
    return Discard()


_SCHEMES: dict[str, Callable[[str], Delivery]] = {"maildir": _maildir, "discard": _discard}
_EXAMPLES = {"maildir": "/path", "discard": ""}
