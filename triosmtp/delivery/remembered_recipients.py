"""The recipients that have a message which the client must send again for others: so that nobody receives it twice.

One SQLite file holds them, for all workers, in the state folder.  An entry is written, and synced, before the client
receives its 451.  It is found again by the message as the client sent it, its sender, the recipient and the target.
An entry is kept for a day.  If there are too many, the oldest are forgotten: a message that arrives twice is better
than one that is lost.
"""

import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from math import inf
from pathlib import Path
from time import time
from typing import Final, TypeVar

import trio

from triosmtp.delivery.recipient_result import RecipientKey
from triosmtp.filesystem import make_directory

__all__ = ["MAX_AGE", "MAX_OF_PEER", "MAX_ROWS", "RememberedRecipients"]

_log = logging.getLogger("triosmtp.delivery")

MAX_ROWS: Final = 100_000
"""Entries of the file."""
MAX_OF_PEER: Final = MAX_ROWS // 4
"""Entries that one address may cause."""
MAX_AGE: Final = 86400
"""Seconds for which an entry is kept."""
_RETRY: Final = 60.0
"""Seconds until a file that could not be used is tried again."""
_BUSY: Final = 5.0
"""Seconds to wait for other processes that write to the file."""
_SCHEMA: Final = """
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS delivered (
        envelope BLOB NOT NULL, message BLOB NOT NULL, peer TEXT NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (envelope, message)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS by_age ON delivered (at);
    CREATE INDEX IF NOT EXISTS by_peer ON delivered (peer, at);
"""
_FORGET: Final = """
    DELETE FROM delivered WHERE (envelope, message) IN
    (SELECT envelope, message FROM delivered {} ORDER BY at DESC LIMIT -1 OFFSET ?)
"""

_T = TypeVar("_T")


class RememberedRecipients:
    """The file at ``path``; the first entry makes it, 0600.

    All methods that wait use one thread.  They raise only cancellation: if the file cannot be used, the
    log says so, nothing is found and nothing is remembered.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = trio.CapacityLimiter(1)
        self._connection: sqlite3.Connection | None = None
        self._retry_at = -inf

    def __str__(self) -> str:
        return str(self.path)

    async def is_usable(self) -> bool:
        """Return whether recipients can be remembered.  A file that could not be used is tried again after a minute."""
        if self._connection is not None:  # a failure closes it
            return True
        return await self._run("open", lambda _: True) is not None

    async def find(self, keys: Sequence[RecipientKey]) -> Mapping[RecipientKey, frozenset[bytes]]:
        """Return for each of ``keys`` that is known the SHA-256 of the messages that were delivered."""
        if not self._exists():
            return {}
        return await self._run("read", lambda connection: _find(connection, keys)) or {}

    async def remember(self, keys: Iterable[RecipientKey], message: bytes, peer: str) -> bool:
        """Remember that ``keys`` have the message with this SHA-256; return whether the entries are durable."""
        rows = [(key.digest(), message, peer, int(time())) for key in keys]
        return await self._run("write", lambda connection: _insert(connection, rows, peer)) is not None

    async def count(self) -> int:
        """Return the number of entries."""
        return await self._run("read", _count) or 0 if self._exists() else 0

    def _exists(self) -> bool:
        """Return whether there is a file: a look-up must not make one, and needs no thread then."""
        return self._connection is not None or os.access(self.path, os.F_OK)

    async def _run(self, action: str, work: Callable[[sqlite3.Connection], _T]) -> _T | None:
        if trio.current_time() < self._retry_at:
            return None
        try:
            return await trio.to_thread.run_sync(self._work, work, limiter=self._thread)
        except (OSError, sqlite3.Error) as error:
            self._retry_at = trio.current_time() + _RETRY
            _log.error('"%s": cannot %s it, recipients are not remembered for %d s: %s', self, action, _RETRY, error)
            return None

    def _work(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            if self._connection is None:
                self._connection = _open(self.path)
            return work(self._connection)
        except BaseException:
            self.close()
            raise

    async def aclose(self) -> None:
        """Close the file when the present use of it has ended."""
        await trio.to_thread.run_sync(self.close, limiter=self._thread)

    def close(self) -> None:
        """Close the file.  It is opened again if it is used again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


def _open(path: Path) -> sqlite3.Connection:
    make_directory(path.parent)
    os.close(
        os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    )  # SQLite creates its other files with this mode
    connection = sqlite3.connect(path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
    try:
        connection.executescript(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection


def _find(connection: sqlite3.Connection, keys: Sequence[RecipientKey]) -> Mapping[RecipientKey, frozenset[bytes]]:
    found = {}
    oldest = int(time()) - MAX_AGE
    for key in keys:
        rows = connection.execute(
            "SELECT message FROM delivered WHERE envelope = ? AND at > ?", (key.digest(), oldest)
        ).fetchall()
        if rows:
            found[key] = frozenset(message for (message,) in rows)
    return found


def _insert(connection: sqlite3.Connection, rows: Iterable[tuple[bytes, bytes, str, int]], peer: str) -> bool:
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("DELETE FROM delivered WHERE at <= ?", (int(time()) - MAX_AGE,))
        connection.executemany("INSERT OR REPLACE INTO delivered VALUES (?, ?, ?, ?)", rows)
        connection.execute(_FORGET.format("WHERE peer = ?"), (peer, MAX_OF_PEER))
        connection.execute(_FORGET.format(""), (MAX_ROWS,))
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return True


def _count(connection: sqlite3.Connection) -> int:
    with closing(connection.execute("SELECT count(*) FROM delivered")) as cursor:
        count: int = cursor.fetchone()[0]
    return count
