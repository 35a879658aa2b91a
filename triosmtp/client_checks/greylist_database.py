"""The memory of greylisting in an SQLite file, which all workers of a server share."""

import logging
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from triosmtp.client_checks.greylist import CLIENT_PASSES, PASSED_SECONDS, WAITING_SECONDS, GreylistKeys
from triosmtp.filesystem import make_directory

__all__ = ["GreylistDatabase"]

_log = logging.getLogger("triosmtp.policy")

_BUSY_SECONDS: Final = 2.0
_MAX_ROWS: Final = 1_000_000
_CLEAN_EVERY: Final = 1000  # new rows
_REPEAT_LOG_SECONDS: Final = 60.0

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS attempt (
    key TEXT PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, passes INTEGER NOT NULL
) WITHOUT ROWID
"""
_CLEAN: Final = "DELETE FROM attempt WHERE last < CASE WHEN passes > 0 THEN ? ELSE ? END"
_OLDEST: Final = "DELETE FROM attempt WHERE key IN (SELECT key FROM attempt ORDER BY passes > 0, last LIMIT ?)"


class GreylistDatabase:
    """A :class:`~triosmtp.client_checks.greylist.GreylistStore` in the file ``path``, mode 0600.

    It holds a million rows; beyond that, the oldest attempts are forgotten.  A power failure may lose the latest: they
    only wait again.  ``now`` returns the Unix time.
    """

    def __init__(self, path: Path, *, max_rows: int = _MAX_ROWS, now: Callable[[], float] = time.time) -> None:
        self.path = path
        self._max_rows = max_rows
        self._now = now
        self._limiter = trio.CapacityLimiter(1)
        self._connection: sqlite3.Connection | None = None
        self._added = 0
        self._logged = -_REPEAT_LOG_SECONDS

    def __str__(self) -> str:
        return str(self.path)

    async def wait(self, keys: GreylistKeys, delay: float) -> float:
        """Remember an attempt, and return the seconds that are left of ``delay``; 0 if the message is accepted."""
        try:
            return await trio.to_thread.run_sync(self._wait, keys, delay, limiter=self._limiter)
        except (OSError, sqlite3.Error) as error:
            if trio.current_time() >= self._logged + _REPEAT_LOG_SECONDS:
                self._logged = trio.current_time()
                _log.error("Greylist: %s: %s: messages do not wait", self.path, error)
            return 0.0

    def close(self) -> None:
        """Close the file.  It is opened again at the next use."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _wait(self, keys: GreylistKeys, delay: float) -> float:
        connection, now = self._connection or self._open(), int(self._now())
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            client = self._find(connection, keys.client, now)
            if client is not None and client[1] >= CLIENT_PASSES:
                self._pass(connection, keys.client, now)
                return 0.0
            found = self._find(connection, keys.message, now)
            if found is None:
                connection.execute("INSERT OR REPLACE INTO attempt VALUES (?, ?, ?, 0)", (keys.message, now, now))
                self._count(connection, now)
                return delay
            first, passes = found
            if not passes:
                if now < first + delay:
                    return first + delay - now
                connection.execute(
                    "INSERT INTO attempt VALUES (?, ?, ?, 1) ON CONFLICT (key) DO UPDATE "
                    "SET passes = passes + 1, last = excluded.last",
                    (keys.client, now, now),
                )
            self._pass(connection, keys.message, now)
            return 0.0

    def _find(self, connection: sqlite3.Connection, key: str, now: int) -> tuple[int, int] | None:
        """Return the first time and the passes of a key that is still remembered."""
        row = connection.execute("SELECT first, last, passes FROM attempt WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        first, last, passes = row
        return None if last < now - (PASSED_SECONDS if passes else WAITING_SECONDS) else (first, passes)

    def _pass(self, connection: sqlite3.Connection, key: str, now: int) -> None:
        connection.execute("UPDATE attempt SET passes = passes + 1, last = ? WHERE key = ?", (now, key))

    def _count(self, connection: sqlite3.Connection, now: int) -> None:
        """Count a new row; from time to time, remove what is forgotten."""
        self._added += 1
        if self._added % min(_CLEAN_EVERY, self._max_rows) == 0:
            connection.execute(_CLEAN, (now - PASSED_SECONDS, now - WAITING_SECONDS))
            rows = connection.execute("SELECT count(*) FROM attempt").fetchone()[0]
            if rows > self._max_rows:
                connection.execute(_OLDEST, (rows - self._max_rows,))

    def _open(self) -> sqlite3.Connection:
        make_directory(self.path.parent)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )  # calls come one at a time
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(_SCHEMA)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection
