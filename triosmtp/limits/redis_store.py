"""A Redis that all nodes share, and that delays nobody.

An answer has a short time.  After a failure, the Redis is not asked for ten seconds, and each node goes on by itself.
"""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

import trio

from triosmtp.errors import needs_extra

if TYPE_CHECKING:
    import coredis

__all__ = ["RedisStore", "import_coredis"]

_AWAY_SECONDS: Final = 10.0
"""Seconds for which a store that failed is not asked."""
_CONNECTIONS: Final = 8


def import_coredis() -> None:
    """Import what the store needs, at the start: the user who serves may not be permitted to read files of packages.

    :raises ImportError: if coredis is missing; the text says what to install.
    """
    try:
        import_module("coredis.retry")
    except ImportError:
        raise ImportError(needs_extra("coredis", "redis")) from None


class _OnChange(Protocol):
    def __call__(self, *, available: bool, reason: str) -> None: ...


class RedisStore:
    """The Redis at ``url``: ``redis://host:port/db``, ``rediss://…`` or ``unix:///path``.

    ``password`` returns the password for a new connection.  An answer has ``seconds`` of time.  ``on_change`` is called
    when the store fails, and when it answers again.  ``clock`` returns the time in seconds.
    """

    def __init__(
        self,
        url: str,
        password: Callable[[], Awaitable[str]] | None = None,
        *,
        seconds: float = 0.05,
        on_change: _OnChange,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self.url = url
        self._password = password
        self._seconds = seconds
        self._on_change = on_change
        self._clock = clock
        self._client: coredis.Redis[str] | None = None
        self._away_until = -1.0
        self.available = True
        """Whether the last question was answered."""

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Hold connections to the store inside of the block.  A store that is away is no error."""
        async with self._open() as client:
            self._client = client
            try:
                yield
            finally:
                self._client = None

    def _open(self) -> "coredis.Redis[str]":
        import coredis  # noqa: PLC0415 - an extra, needed only with a store
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
            connect_timeout=self._seconds,
            max_connections=_CONNECTIONS,
            retry_policy=NoRetryPolicy(),
        )

    async def ask(self, script: str, keys: list[str], *arguments: str) -> object:
        """Return the answer to a script, 0 if it has none; None if the store does not answer."""
        now = self._clock()
        if self._client is None or now < self._away_until:
            return None
        reason = f"no answer in {self._seconds * 1000:.0f} ms"
        with trio.move_on_after(self._seconds):
            try:
                answer = await self._client.eval(script, tuple(keys), arguments)
            except Exception as error:  # noqa: BLE001 - whatever the library raises, the node goes on by itself
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
