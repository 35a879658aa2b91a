"""Locks of scripts."""

import pytest
import trio
import trio.testing

from triosmtp.lua.api import lock_table
from triosmtp.lua.api.lock_table import LockError, LockTable, ScriptLock


async def test_callouts_get_a_lock_in_their_order() -> None:
    lock = ScriptLock()
    got: list[str] = []
    assert lock.acquire("first") is None

    async def take(owner: str) -> None:
        waits = lock.acquire(owner)
        assert waits is not None
        await waits
        got.append(owner)

    async with trio.open_nursery() as nursery:
        for owner in ("second", "third"):
            nursery.start_soon(take, owner)
            await trio.testing.wait_all_tasks_blocked()
        assert not lock.try_acquire("fourth")
        for owner in ("first", "second", "third"):
            lock.release(owner)
            await trio.testing.wait_all_tasks_blocked()
    assert got == ["second", "third"]
    assert lock.try_acquire("fourth")


@pytest.mark.parametrize("passed_on", [False, True])
async def test_one_that_is_cancelled_leaves_the_queue(passed_on: bool) -> None:
    lock = ScriptLock()
    lock.acquire("first")
    with trio.CancelScope() as scope:
        waits = lock.acquire("second")
        assert waits is not None
        if passed_on:
            lock.waiting.clear()  # as release() does
            lock.holder = "second"
        scope.cancel()
        await waits
    if not passed_on:
        lock.release("first")
    assert lock.holder in {None, "second"}
    assert not lock.waiting or passed_on


def test_mistakes_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = ScriptLock()
    with pytest.raises(LockError, match="not held"):
        lock.release("first")
    lock.acquire("first")
    with pytest.raises(LockError, match="held already"):
        lock.acquire("first")
    monkeypatch.setattr(lock_table, "_MAX_WAITING", 0)
    with pytest.raises(LockError, match="too many callouts wait"):
        lock.acquire("second")


def test_names_of_locks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_table, "_MAX_LOCKS", 2)
    table = LockTable()
    table.lock(b"a").acquire("owner")
    table.lock(b"b")
    table.lock(b"c").acquire("owner")  # b is free: it is forgotten
    assert table.lock(b"a").holder == "owner"
    with pytest.raises(LockError, match="too many locks"):
        table.lock(b"d")
