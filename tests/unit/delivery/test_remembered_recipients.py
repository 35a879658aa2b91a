"""Recipients that have a message are remembered: durably, for all processes, within bounds."""

import logging
import sqlite3
import stat
import sys
from contextlib import closing
from pathlib import Path

import pytest
import trio

from triosmtp.delivery import RecipientKey, remembered_recipients
from triosmtp.delivery.remembered_recipients import RememberedRecipients

ONE = RecipientKey("a@far.example", "u@example.com", "hop")
MESSAGE, OTHER = b"m" * 32, b"o" * 32


@pytest.fixture
def memory(tmp_path: Path) -> RememberedRecipients:
    return RememberedRecipients(tmp_path / "state" / "remembered.sqlite3")


async def test_an_entry_is_found_by_sender_recipient_and_target(memory: RememberedRecipients) -> None:
    assert await memory.find([ONE]) == {}
    assert await memory.count() == 0
    assert await memory.remember([ONE], MESSAGE, "192.0.2.1")
    assert await memory.remember([ONE], MESSAGE, "192.0.2.1")
    assert await memory.remember([ONE], OTHER, "192.0.2.1")
    others = [
        RecipientKey("b@far.example", "u@example.com", "hop"),
        RecipientKey("a@far.example", "v@example.com", "hop"),
        RecipientKey("a@far.example", "u@example.com", "archive"),
        RecipientKey("a@far.exampleu@example.com", "", "hop"),
    ]
    assert await memory.find([*others, ONE]) == {ONE: {MESSAGE, OTHER}}
    assert await memory.count() == 2
    memory.close()
    assert await memory.find([ONE]) == {ONE: {MESSAGE, OTHER}}
    memory.close()


async def test_the_files_are_those_of_the_owner_and_hold_no_address(memory: RememberedRecipients) -> None:
    assert await memory.remember([ONE], MESSAGE, "192.0.2.1")
    files = list(memory.path.parent.iterdir())
    assert len(files) == 3
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert b"example" not in path.read_bytes()
    memory.close()


async def test_another_process_finds_it_at_once_and_a_killed_one_leaves_it(memory: RememberedRecipients) -> None:
    """The WAL is synced before the call returns: a process that is killed then has lost nothing."""
    program = f"""
import os, pathlib, signal, trio
from triosmtp.delivery import RecipientKey
from triosmtp.delivery.remembered_recipients import RememberedRecipients
async def main():
    memory = RememberedRecipients(pathlib.Path({str(memory.path)!r}))
    assert await memory.remember([RecipientKey(*{(ONE.sender, ONE.recipient, ONE.target)!r})], b"m" * 32, "192.0.2.1")
    os.kill(os.getpid(), signal.SIGKILL)
trio.run(main)
"""
    assert await memory.is_usable()
    result = await trio.run_process([sys.executable, "-c", program], check=False, capture_stderr=True)
    assert result.returncode == -9, result.stderr
    assert await memory.find([ONE]) == {ONE: {MESSAGE}}
    memory.close()


async def test_an_entry_is_forgotten_after_a_day(memory: RememberedRecipients, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_800_000_000.0]
    monkeypatch.setattr(remembered_recipients, "time", lambda: now[0])
    assert await memory.remember([ONE], MESSAGE, "192.0.2.1")
    now[0] += 86399
    assert await memory.find([ONE])
    now[0] += 1
    assert await memory.find([ONE]) == {}
    assert await memory.remember([RecipientKey("", "x@example.com", "hop")], MESSAGE, "192.0.2.1")
    assert await memory.count() == 1
    memory.close()


async def test_the_oldest_are_forgotten_of_a_peer_and_of_all(
    memory: RememberedRecipients, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_800_000_000.0]
    monkeypatch.setattr(remembered_recipients, "time", lambda: now[0])
    monkeypatch.setattr(remembered_recipients, "MAX_OF_PEER", 3)
    monkeypatch.setattr(remembered_recipients, "MAX_ROWS", 5)

    async def add(peer: str, first: int, last: int) -> None:
        for number in range(first, last):
            now[0] += 1
            assert await memory.remember([RecipientKey(peer, str(number), "hop")], MESSAGE, peer)

    async def left(peer: str) -> list[int]:
        found = await memory.find([RecipientKey(peer, str(number), "hop") for number in range(10)])
        return sorted(int(key.recipient) for key in found)

    await add("greedy", 0, 5)
    assert await left("greedy") == [2, 3, 4]
    await add("other", 0, 2)
    assert (await left("greedy"), await left("other")) == ([2, 3, 4], [0, 1])
    await add("third", 0, 1)
    assert (await left("greedy"), await left("other"), await left("third")) == ([3, 4], [0, 1], [0])
    memory.close()


async def test_a_file_that_cannot_be_used_is_tried_again_after_a_minute(
    memory: RememberedRecipients, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(trio, "current_time", lambda: clock[0])
    memory.path.parent.mkdir()
    memory.path.write_bytes(b"this is no database" * 100)
    with caplog.at_level(logging.ERROR):
        assert not await memory.is_usable()
        assert not await memory.remember([ONE], MESSAGE, "192.0.2.1")
        assert await memory.find([ONE]) == {}
        assert await memory.count() == 0
    [record] = caplog.records
    assert str(memory.path) in record.getMessage()
    memory.path.unlink()
    assert not await memory.is_usable()
    clock[0] += 60
    assert await memory.is_usable()
    memory.close()


async def test_a_write_that_fails_leaves_nothing_half_done(memory: RememberedRecipients) -> None:
    assert await memory.remember([ONE], MESSAGE, "192.0.2.1")
    with closing(sqlite3.connect(memory.path)) as other, other:
        other.execute("DROP INDEX by_age")
        other.execute("ALTER TABLE delivered RENAME COLUMN peer TO renamed")
    assert not await memory.remember([RecipientKey("", "x", "hop")], MESSAGE, "192.0.2.1")
    memory.close()
    with closing(sqlite3.connect(memory.path)) as other, other:
        assert other.execute("SELECT count(*) FROM delivered").fetchone() == (1,)
