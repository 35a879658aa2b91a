"""The logs of a configuration: how they are opened, reopened and replaced."""

import errno
import logging
import os
from pathlib import Path

import pytest
import trio
import trio.testing
from momentum_events import CONF, attempt, config, lines

import triosmtp
from triosmtp.logs.momentum_log import MomentumLogs, open_logs


def test_files_are_reopened_and_a_failing_disk_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs, event = open_logs(config(tmp_path)), attempt()
    logs(event)
    (tmp_path / "acctlog").rename(tmp_path / "acctlog.1")
    logs(event)
    logs.reopen()
    logs(event)
    assert [len(lines(tmp_path / name)) for name in ("acctlog.1", "acctlog")] == [2, 1]
    assert (tmp_path / "acctlog").stat().st_mode & 0o777 == 0o640 & ~umask()
    monkeypatch.setattr(logging.getLogger("triosmtp"), "propagate", True)
    write, full = os.write, True

    def no_space(descriptor: int, data: bytes) -> int:
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", no_space)
    logs(event)
    logs(event)
    told = [record for record in caplog.records if "No space left" in record.getMessage()]
    assert len(told) == 1
    full = False
    logs(event)
    assert len(lines(tmp_path / "acctlog")) == 2
    assert f"{tmp_path}/acctlog: No space left on device: 2 lines were lost" in caplog.messages
    logs.close()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


async def read_users(reader: int, count: int) -> list[str]:
    """Read as many lines of acctlog; return the user of each."""
    os.set_blocking(reader, False)
    data = b""
    with trio.fail_after(20):
        while data.count(b"\n") < count:
            await trio.lowlevel.wait_readable(reader)
            data += os.read(reader, 65536)
    assert data.endswith(b"\n")
    fields = [line.split("@") for line in data.decode().splitlines()]
    assert {tuple(each[1:4]) for each in fields} == {("N", ":25", "192.0.2.1:2")}
    return [each[4] for each in fields]


async def test_pending_lines_survive_reopening_and_reloads(
    tmp_path: Path, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("triosmtp"), "propagate", True)
    pipe, users = tmp_path / "acctlog", [f"u{number}" for number in range(5000)]
    os.mkfifo(pipe)
    logs = open_logs(config(tmp_path))
    nursery.start_soon(logs.run)
    await trio.testing.wait_all_tasks_blocked()
    for user in users[:4000]:  # far more than a pipe holds
        logs(attempt(user))
    writer, waiting = logs.files["acctlog"].writer, len(logs.files["acctlog"].writer._waiting)
    assert waiting > 1000
    logs.reopen()
    logs.apply(open_logs(config(tmp_path)))
    assert logs.files["acctlog"].writer is writer, "the same pipe stays open"
    assert len(writer._waiting) == waiting, "and nobody was waited for"
    for user in users[4000:]:
        logs(attempt(user))
    with pipe.open("r+b", buffering=0) as reader:
        assert await read_users(reader.fileno(), 5000) == users, "without a further line to write"
    assert not caplog.records
    writer._limit = 0
    for user in users:
        logs(attempt(user))
    trouble = f"{pipe}: nobody read it: lines are lost"
    assert [record.getMessage() for record in caplog.records] == [trouble], "told once, and at once"
    lost, held = writer.lost, 5000 - writer.lost
    with pipe.open("r+b", buffering=0) as reader:
        logs.reopen()
        assert await read_users(reader.fileno(), held) == users[:held]
        logs(attempt("next"))
        assert await read_users(reader.fileno(), 1) == ["next"], "no note stands among them"
    assert [record.getMessage() for record in caplog.records[1:]] == [f"{pipe}: nobody read it: {lost} lines were lost"]
    logs.close()


async def test_a_new_pipe_receives_the_pending_lines_and_a_removed_log_reports_its_loss(
    tmp_path: Path, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("triosmtp"), "propagate", True)
    pipe, users = tmp_path / "acctlog", [f"u{number}" for number in range(4000)]
    os.mkfifo(pipe)
    logs = open_logs(config(tmp_path))
    nursery.start_soon(logs.run)
    await trio.testing.wait_all_tasks_blocked()
    for user in users:
        logs(attempt(user))
    pipe.rename(tmp_path / "acctlog.1")
    os.mkfifo(pipe)
    with (tmp_path / "acctlog.1").open("r+b", buffering=0) as before, pipe.open("r+b", buffering=0) as reader:
        logs.reopen()
        await trio.testing.wait_all_tasks_blocked()
        os.set_blocking(before.fileno(), False)
        held = before.read(1 << 20).count(b"\n")
        assert await read_users(reader.fileno(), 4000 - held) == users[held:]
        assert not caplog.records
        for user in users:
            logs(attempt(user))
        waiting = len(logs.files["acctlog"].writer._waiting)
        logs.apply(open_logs(triosmtp.parse_config('ESMTP_Listener { Listen ":25" { } }')))
    assert [record.getMessage() for record in caplog.records] == [f"{pipe}: nobody read it: {waiting} lines were lost"]


def test_a_file_that_cannot_be_opened_names_its_place(tmp_path: Path) -> None:
    with pytest.raises(triosmtp.ConfigError, match=r'<string>:4:5: error: Log "mainlog": .*No such file') as caught:
        open_logs(triosmtp.parse_config(CONF.format(folder=tmp_path / "no", more="")))
    assert len(caught.value.problems) == 3
    assert isinstance(open_logs(triosmtp.parse_config('ESMTP_Listener { Listen ":25" { } }')), MomentumLogs)
