"""Counts of the events of peers over all nodes, in a Redis that they share (Limits_Store).

A store that is away delays nobody: an answer has 50 ms.  After that, each node counts by itself for ten seconds, and
then asks again.  Open connections are never counted here, because a node that dies would not count them out.
"""

import logging
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

import trio

from triosmtp.limits.peer_count import PeerAddress, peer_key

if TYPE_CHECKING:
    import coredis

__all__ = ["SharedCounts", "missing_package"]

_log = logging.getLogger("triosmtp.limits")

_ANSWER_SECONDS: Final = 0.05
_AWAY_SECONDS: Final = 10.0
"""Seconds for which a store that failed is not asked."""
_CONNECTIONS: Final = 8
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


def missing_package() -> str:
    """Return what to install if the package that Limits_Store needs is missing; else ``""``."""
    return "" if find_spec("coredis") else "needs coredis: pip install 'triosmtp[redis]'"


class _OnChange(Protocol):
    def __call__(self, *, available: bool, reason: str) -> None: ...


class SharedCounts:
    """The counts of peers in the Redis at ``url``: ``redis://host:port/db``, ``rediss://…`` or ``unix:///path``.

    ``password`` returns the password for a new connection.  ``on_change`` is called when the store fails, and when it
    answers again.  ``clock`` returns the time in seconds.
    """

    def __init__(
        self,
        url: str,
        password: Callable[[], Awaitable[str]] | None = None,
        *,
        on_change: _OnChange,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self.url = url
        self._password = password
        self._on_change = on_change
        self._clock = clock
        self._client: coredis.Redis[str] | None = None
        self._away_until = -1.0
        self.available = True
        """Whether the last question was answered."""
        self._uncounts: deque[tuple[str, PeerAddress]] = deque(maxlen=_MAX_UNCOUNTS)
        self._has_uncounts = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the connections to the store until cancelled.  A store that is away is no error."""
        async with self._open() as client:
            self._client = client
            try:
                task_status.started()
                while True:
                    await self._has_uncounts.wait()
                    self._has_uncounts = trio.Event()
                    while self._uncounts:
                        option, peer = self._uncounts[0]
                        await self._ask(_UNCOUNT, option, peer)
                        self._uncounts.popleft()
            finally:
                self._client = None

    def _open(self) -> "coredis.Redis[str]":
        import coredis  # noqa: PLC0415
        from coredis.retry import NoRetryPolicy  # noqa: PLC0415

        parts = urlsplit(self.url)
        return coredis.Redis(
            host=parts.hostname or "localhost",
            port=parts.port or 6379,
            db=int(parts.path.strip("/") or 0) if parts.scheme != "unix" else 0,
            unix_socket_path=parts.path if parts.scheme == "unix" else None,
            credential_provider=None if self._password is None else _credentials(self._password),
            ssl_context=ssl.create_default_context() if parts.scheme == "rediss" else None,
            decode_responses=True,
            connect_timeout=_ANSWER_SECONDS,
            max_connections=_CONNECTIONS,
            retry_policy=NoRetryPolicy(),
        )

    async def count(self, option: str, peer: PeerAddress, limit: tuple[int, float]) -> bool | None:
        """Count an event of ``peer`` for the limit ``option``, or return False if it is reached on all nodes together.

        ``limit`` is a number of events and the seconds in which they may happen, from the first one on.  Return None if
        the store does not answer; then the caller counts.
        """
        most, seconds = limit
        answer = await self._ask(_COUNT, option, peer, str(most), str(max(1, round(seconds * 1000))))
        return None if answer is None else answer == 1

    def uncount(self, option: str, peer: PeerAddress) -> None:
        """Undo one :meth:`count`, soon."""
        self._uncounts.append((option, peer))
        self._has_uncounts.set()

    async def _ask(self, script: str, option: str, peer: PeerAddress, *arguments: str) -> object:
        """Return the answer to a script, 0 if it has none; None if the store does not answer."""
        now = self._clock()
        if self._client is None or now < self._away_until:
            return None
        family, number = peer_key(peer)
        key = f"triosmtp:{option}:{family}:{number:x}"
        reason = f"no answer in {_ANSWER_SECONDS * 1000:.0f} ms"
        with trio.move_on_after(_ANSWER_SECONDS):
            try:
                answer = await self._client.eval(script, [key], list(arguments))
            except Exception as error:  # noqa: BLE001 - whatever the library raises, the node counts by itself
                reason = f"{type(error).__name__}: {error}"
            else:
                if not self.available:
                    self.available = True
                    self._on_change(available=True, reason="")
                return answer or 0
        self._away_until = now + _AWAY_SECONDS
        if self.available:
            self.available = False
            self._on_change(available=False, reason=reason)
        return None


def _credentials(password: Callable[[], Awaitable[str]]) -> Any:
    from coredis.credentials import AbstractCredentialProvider, UserPass  # noqa: PLC0415

    class Credentials(AbstractCredentialProvider):
        async def get_credentials(self) -> UserPass:
            return UserPass("default", await password())

    return Credentials()
