"""The nearest known name, for whoever mistyped one."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["nearest", "suggest"]

_LONGEST = 64  # the comparison takes quadratic time


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Give the known name that is most like ``name``, without regard to case; None where none is near."""
    if len(name) > _LONGEST:
        return None
    by_lower = {each.lower(): each for each in known}
    matches = get_close_matches(name.lower(), by_lower, n=1)
    return by_lower[matches[0]] if matches else None


def suggest(name: str | None) -> str:
    """Give the end of an error message: which name was probably meant, if one is near."""
    return "" if name is None else f"; did you mean {name}?"
