"""Reads a delivery from the word that stands for it in a configuration: ``maildir:/path``, ``discard:``."""

from collections.abc import Callable
from pathlib import Path

from triosmtp.delivery.discard import Discard
from triosmtp.delivery.interface import Delivery
from triosmtp.delivery.maildir import Maildir

__all__ = ["parse_delivery"]


def parse_delivery(specification: str) -> Delivery:
    """Give the delivery that ``specification`` names, ``SCHEME:ARGUMENT``; nothing is opened or made yet.

    :raises ValueError: where the scheme is unknown (the message lists those known) or its argument is no good.
    """
    scheme, colon, argument = specification.partition(":")
    make = _SCHEMES.get(scheme.lower()) if colon else None
    if make is None:
        known = ", ".join(f"{name}:{example}" for name, example in _EXAMPLES.items())
        raise ValueError(f"unknown delivery {specification!r}: expected one of {known}")
    return make(argument)


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
