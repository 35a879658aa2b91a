"""``msys.lock``, ``msys.unlock`` and ``thread.mutex()``."""

import logging
from typing import Any

from triosmtp.lua.api.access import Callout, text
from triosmtp.lua.api.lock_table import LockError, ScriptLock
from triosmtp.lua.host import HostObject, HostTable, ScriptError

__all__ = ["TABLE"]

TABLE = HostTable()

_log = logging.getLogger("triosmtp.lua")


def _acquire(callout: Callout, lock: ScriptLock, name: str) -> Any:
    try:
        waits = lock.acquire(callout)
    except LockError as error:
        raise ScriptError(str(error)) from None
    callout.at_end.append(lambda: _free(callout, lock, name))
    return waits


def _free(callout: Callout, lock: ScriptLock, name: str) -> None:
    """Release a lock that a callout has left."""
    held: bool = lock.holder is callout
    if held:
        if callout.may_log():
            _log.warning("%s: the lock %s was held at the end of the callout, and is released", callout.method, name)
        lock.release(callout)


def _release(callout: Callout, lock: ScriptLock) -> None:
    try:
        lock.release(callout)
    except LockError as error:
        raise ScriptError(str(error)) from None


def _named(callout: Callout, name: bytes) -> ScriptLock:
    try:
        found: ScriptLock = callout.engine.resources.locks.lock(name)
    except LockError as error:
        raise ScriptError(str(error)) from None
    return found


@TABLE.function("msys.lock", "s", state="should", waits=True)
def _lock(callout: Callout, name: bytes) -> Any:
    return _acquire(callout, _named(callout, name), repr(text(name)))


@TABLE.function("msys.unlock", "s", state="should")
def _unlock(callout: Callout, name: bytes) -> None:
    _release(callout, _named(callout, name))


class Mutex(HostObject):
    """A lock without a name."""

    lua_class = "mutex"

    def __init__(self) -> None:
        self.lock = ScriptLock()


def _mutex(_callout: Callout) -> Mutex:
    return Mutex()


for _module in ("thread", "msys.thread"):
    TABLE.function(f"{_module}.mutex", "", state="should")(_mutex)


@TABLE.function("mutex:lock", "", state="should", waits=True)
def _mutex_lock(callout: Callout, mutex: Mutex) -> Any:
    return _acquire(callout, mutex.lock, "of a mutex")


@TABLE.function("mutex:trylock", "", state="should")
def _mutex_trylock(callout: Callout, mutex: Mutex) -> bool:
    if not mutex.lock.try_acquire(callout):
        return False
    callout.at_end.append(lambda: _free(callout, mutex.lock, "of a mutex"))
    return True


@TABLE.function("mutex:unlock", "", state="should")
def _mutex_unlock(callout: Callout, mutex: Mutex) -> None:
    _release(callout, mutex.lock)
