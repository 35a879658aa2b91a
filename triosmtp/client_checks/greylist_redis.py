"""The memory of greylisting in the Redis that all nodes share (Limits_Store)."""

import time
from collections.abc import Callable
from typing import Final

import trio

from triosmtp.client_checks.greylist import CLIENT_PASSES, PASSED_SECONDS, WAITING_SECONDS, GreylistKeys
from triosmtp.limits.redis_store import RedisStore

__all__ = ["GreylistRedis"]

_PASSED: Final = "passed"
_WAIT: Final = f"""
local now, delay = tonumber(ARGV[1]), tonumber(ARGV[2])
if tonumber(redis.call('GET', KEYS[2]) or '0') >= {CLIENT_PASSES} then
    redis.call('EXPIRE', KEYS[2], {PASSED_SECONDS})
    return 0
end
local first = redis.call('GET', KEYS[1])
if not first then
    redis.call('SET', KEYS[1], ARGV[1], 'EX', {WAITING_SECONDS})
    return delay
end
if first ~= '{_PASSED}' then
    local left = tonumber(first) + delay - now
    if left > 0 then return left end
    redis.call('INCR', KEYS[2])
    redis.call('EXPIRE', KEYS[2], {PASSED_SECONDS})
end
redis.call('SET', KEYS[1], '{_PASSED}', 'EX', {PASSED_SECONDS})
return 0
"""


class GreylistRedis:
    """A :class:`~triosmtp.client_checks.greylist.GreylistStore` in ``store``.  ``now`` returns the Unix time."""

    def __init__(self, store: RedisStore, *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._now = now

    def __str__(self) -> str:
        return self._store.url

    async def run(self) -> None:
        """Hold the connections to the store until cancelled."""
        async with self._store.connected():
            await trio.sleep_forever()

    async def wait(self, keys: GreylistKeys, delay: float) -> float:
        """Remember an attempt, and return the seconds that are left of ``delay``; 0 if the message is accepted."""
        names = [f"triosmtp:greylist:{key}" for key in (keys.message, keys.client)]
        answer = await self._store.ask(_WAIT, names, str(int(self._now())), str(int(delay)))
        return float(answer) if isinstance(answer, int) else 0.0

    def close(self) -> None:
        """Return at once: the connections end with :meth:`run`."""
