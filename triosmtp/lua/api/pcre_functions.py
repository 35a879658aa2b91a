"""``msys.pcre``: on the event loop with a small budget, then in a thread with a large one."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar

import trio

from triosmtp.lua.api import pcre
from triosmtp.lua.api.access import Callout
from triosmtp.lua.api.pcre import LARGE, SMALL, PatternError
from triosmtp.lua.host import HostTable

__all__ = ["TABLE", "search_in_time"]

TABLE = HostTable()

T = TypeVar("T")

_LIMITER = trio.CapacityLimiter(4)
_LARGE_SUBJECT: Final = 64 * 1024  # octets that are not searched on the event loop


def search_in_time(function: Callable[..., T], size: int, *arguments: bytes) -> T | Awaitable[T]:
    """Call a function of :mod:`triosmtp.lua.api.pcre` with ``arguments`` and a budget; ``size`` is that of the subject.

    If the small budget is used up, an awaitable is returned.

    :raises PatternError: as the function does.
    """
    try:
        if size <= _LARGE_SUBJECT:
            return function(*arguments, budget=SMALL)
    except PatternError as error:
        if not error.is_limit:
            raise
    return trio.to_thread.run_sync(partial(function, *arguments, budget=LARGE), limiter=_LIMITER)


def _answered(function: Callable[..., Any], *arguments: bytes) -> Any:
    """Return what a script gets: the result, or nil, a text and a number."""
    try:
        found = search_in_time(function, len(arguments[0]), *arguments)
    except PatternError as error:
        return None, str(error), error.code
    return _awaited(found) if isinstance(found, Awaitable) else found


async def _awaited(found: Awaitable[Any]) -> Any:
    try:
        return await found
    except PatternError as error:
        return None, str(error), error.code


@TABLE.function("msys.pcre.match", "ss", waits=True)
def _match(_callout: Callout, subject: bytes, pattern: bytes) -> Any:
    return _answered(pcre.match, subject, pattern)


@TABLE.function("msys.pcre.replace", "sss", waits=True)
def _replace(_callout: Callout, subject: bytes, pattern: bytes, new: bytes) -> Any:
    return _answered(pcre.replace, subject, pattern, new)


@TABLE.function("msys.pcre.split", "ss", waits=True)
def _split(_callout: Callout, subject: bytes, pattern: bytes) -> Any:
    return _answered(pcre.split, subject, pattern)
