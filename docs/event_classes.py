"""The events that the documentation lists.  Tests import this: it needs no Sphinx."""

from typing import get_args

from triosmtp import event


def events() -> list[type]:
    """Return the classes of all events in the order of their module."""
    names = list(vars(event))
    return sorted(get_args(event.ServerEvent), key=lambda each: names.index(each.__name__))
