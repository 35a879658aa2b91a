"""Locks of scripts: ``msys.lock``, ``msys.unlock`` and ``thread.mutex()``.  Sessions wait for each other in turn."""

from collections import deque
from collections.abc import Awaitable
from typing import Final

import trio
from attrs import Factory, define

from triosmtp.errors import TrioSMTPError

__all__ = ["LockError", "LockTable", "ScriptLock"]

_MAX_LOCKS: Final = 10_000
_MAX_WAITING: Final = 10_000


class LockError(TrioSMTPError):
    """A lock that cannot be taken or released."""


@define(slots=True, eq=False)
class ScriptLock:
    """One lock."""

    holder: object = None
    """The callout that holds it, or None."""
    waiting: deque[tuple[object, trio.Event]] = Factory(deque)

    def acquire(self, owner: object) -> Awaitable[None] | None:
        """Take the lock for ``owner``, or return an awaitable that does.

        :raises LockError: if ``owner`` holds it already, or too many wait.
        """
        if self.holder is None:
            self.holder = owner
            return None
        if self.holder is owner:
            raise LockError("the lock is held already by this callout")
        if len(self.waiting) >= _MAX_WAITING:
            raise LockError("too many callouts wait for the lock")
        return self._wait(owner)

    def try_acquire(self, owner: object) -> bool:
        """Take the lock if it is free; return whether it was."""
        if self.holder is not None:
            return False
        self.holder = owner
        return True

    async def _wait(self, owner: object) -> None:
        entry = owner, trio.Event()
        self.waiting.append(entry)
        try:
            await entry[1].wait()
        except BaseException:
            if entry in self.waiting:
                self.waiting.remove(entry)
            elif self.holder is owner:  # it was passed on in this moment
                self.release(owner)
            raise

    def release(self, owner: object) -> None:
        """Pass the lock on.

        :raises LockError: if ``owner`` does not hold it.
        """
        if self.holder is not owner:
            raise LockError("the lock is not held by this callout")
        self.holder = None
        if self.waiting:
            self.holder, event = self.waiting.popleft()
            event.set()


@define(slots=True, eq=False)
class LockTable:
    """The locks with a name."""

    _locks: dict[bytes, ScriptLock] = Factory(dict)

    def lock(self, name: bytes) -> ScriptLock:
        """Return the lock of a name.

        :raises LockError: if there are too many that are held.
        """
        found = self._locks.get(name)
        if found is None:
            if len(self._locks) >= _MAX_LOCKS:
                self._locks = {key: each for key, each in self._locks.items() if each.holder is not None}
            if len(self._locks) >= _MAX_LOCKS:
                raise LockError("too many locks are held")
            found = self._locks[name] = ScriptLock()
        return found
