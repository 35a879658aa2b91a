"""Counts of the events of peers over all nodes, in a Redis that they share (Limits_Store).

Open connections are never counted here, because a node that dies would not count them out.
"""

from collections import deque
from typing import Final

import trio

from triosmtp.limits.peer_count import PeerAddress, peer_key
from triosmtp.limits.redis_store import RedisStore

__all__ = ["SharedCounts"]

_MAX_UNCOUNTS: Final = 1000
"""Counts that are to be undone; of more, the oldest stay counted."""

_COUNT: Final = """
local events = tonumber(redis.call('GET', KEYS[1]) or '0')
if events >= tonumber(ARGV[1]) then return 0 end
if redis.call('INCR', KEYS[1]) == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
"""
"""One step for all nodes: compare with the limit, count, and begin the time with the first event."""
_UNCOUNT: Final = """
if tonumber(redis.call('GET', KEYS[1]) or '0') > 0 then redis.call('DECR', KEYS[1]) end
"""


class SharedCounts:
    """The counts of peers in ``store``."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._uncounts: deque[tuple[str, PeerAddress]] = deque(maxlen=_MAX_UNCOUNTS)
        self._has_uncounts = trio.Event()

    @property
    def available(self) -> bool:
        """Whether the store answered last."""
        return self._store.available

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the connections to the store until cancelled."""
        async with self._store.connected():
            task_status.started()
            while True:
                await self._has_uncounts.wait()
                self._has_uncounts = trio.Event()
                while self._uncounts:
                    await self._store.ask(_UNCOUNT, [_key(*self._uncounts[0])])
                    self._uncounts.popleft()

    async def count(self, option: str, peer: PeerAddress, limit: tuple[int, float]) -> bool | None:
        """Count an event of ``peer`` for the limit ``option``, or return False if it is reached on all nodes together.

        ``limit`` is a number of events and the seconds in which they may happen, from the first one on.  Return None if
        the store does not answer; then the caller counts.
        """
        most, seconds = limit
        answer = await self._store.ask(_COUNT, [_key(option, peer)], str(most), str(max(1, round(seconds * 1000))))
        return None if answer is None else answer == 1

    def uncount(self, option: str, peer: PeerAddress) -> None:
        """Undo one :meth:`count`, soon."""
        self._uncounts.append((option, peer))
        self._has_uncounts.set()


def _key(option: str, peer: PeerAddress) -> str:
    family, number = peer_key(peer)
    return f"triosmtp:{option}:{family}:{number:x}"
