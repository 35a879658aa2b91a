"""Logs that nobody reads: only their lines are lost, and the server continues."""

import os
import smtplib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
import trio
import trio.testing
from full_disk import FULL, full_at

from triosmtp.logs.non_blocking_writer import NonBlockingWriter

Pipe = tuple[int, TextIO]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream:
        yield read, stream
    os.close(read)


def read_all(fd: int) -> bytes:
    os.set_blocking(fd, False)
    data = b""
    try:
        while piece := os.read(fd, 65536):
            data += piece
    except BlockingIOError:
        pass
    return data


def note(lines: int, reason: str) -> str:
    return f"{lines} lost: {reason}\n"


def fill(writer: NonBlockingWriter, lines: int, octets: int = 100) -> None:
    for number in range(lines):
        writer.write(f"{number:06d} {'x' * (octets - 8)}\n")


def test_lines_are_written_at_once(pipe: Pipe) -> None:
    writer = NonBlockingWriter(pipe[1], note)
    writer.write("one\n")
    assert os.read(pipe[0], 100) == b"one\n"


def test_a_full_pipe_makes_lines_wait_and_none_is_torn(pipe: Pipe) -> None:
    writer = NonBlockingWriter(pipe[1], note)
    fill(writer, 2000)  # 200 kB into a pipe of 64 KiB
    data = read_all(pipe[0])
    while writer._waiting:
        writer.write("")
        data += read_all(pipe[0])
    lines = data.decode().splitlines()
    assert [int(line[:6]) for line in lines] == list(range(2000))
    assert {len(line) for line in lines} == {99}
    assert writer.lost == 0


def test_lines_that_do_not_fit_are_counted_and_logged(pipe: Pipe) -> None:
    writer = NonBlockingWriter(pipe[1], note, limit=10_000)
    fill(writer, 2000)
    assert writer._size <= 10_000 + 100
    assert writer.lost > 1000
    assert writer.trouble == "nobody read it"
    data = b""
    while writer._waiting:
        data += read_all(pipe[0])
        with writer._lock:
            writer._write_waiting()
    writer.write("last\n")
    *lines, told, last = (data + read_all(pipe[0])).decode().splitlines()
    assert [int(line[:6]) for line in lines] == list(range(len(lines)))
    assert told == f"{2000 - len(lines)} lost: nobody read it"
    assert last == "last"
    assert (writer.lost, writer.lost_total) == (0, 2000 - len(lines))


def test_a_partly_written_note_is_continued(pipe: Pipe) -> None:
    long = f"{'n' * 9000}\n"
    writer = NonBlockingWriter(pipe[1], lambda *_: long, limit=10_000)
    fill(writer, 2000)
    data = b""
    while writer.lost:
        data += os.read(pipe[0], 4096)  # at the end a part of the note fits
        writer.write("")
    assert writer._waiting
    writer.write("waits\n")
    while writer._waiting:
        data += os.read(pipe[0], 4096)
        writer.write("")
    *lines, told, last = (data + read_all(pipe[0])).decode().splitlines()
    assert [int(line[:6]) for line in lines] == list(range(len(lines)))
    assert (f"{told}\n", last) == (long, "waits")


def test_a_full_disk_tears_a_line_and_no_other_is_glued_to_it(tmp_path: Path) -> None:
    with (tmp_path / "log").open("a") as stream:
        writer = NonBlockingWriter(stream, note)
        writer.write("first\n")
        with full_at(10):
            writer.write("second\n")
            writer.write("third\n")
        assert (writer.lost, writer.trouble) == (2, FULL)
        with full_at(21):  # as far as into the note
            writer.write("fourth\n")
        assert (writer.lost, writer.trouble) == (2, FULL)
        assert writer.lost_total == 2  # a note that could not be written is no further loss
        writer.write("fifth\n")
        writer.write("sixth\n")
        assert writer.trouble is None
        writer.close()
    told = f"2 lost: {FULL}"
    assert (tmp_path / "log").read_text().splitlines() == ["first", "seco", "fourth", told[:3], "fifth", told, "sixth"]


def test_lines_that_one_writer_lost_count_for_the_next_one(tmp_path: Path) -> None:
    with (tmp_path / "log").open("a") as stream:
        old, new = NonBlockingWriter(stream, note), NonBlockingWriter(stream, note)
        with full_at(0):
            old.write("one\n")
            old.write("two\n")
        new.adopt(old.detach())
        assert (new.lost, new.lost_total) == (0, 2)
        with full_at(0):
            new.write("three\n")
        assert (new.lost, new.lost_total) == (1, 3)
        new.close()


async def test_a_writer_does_not_turn_in_circles_on_a_full_disk(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    with (tmp_path / "log").open("a") as stream:
        writer = NonBlockingWriter(stream, note)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            with full_at(0):
                writer.write("lost\n")
            await trio.sleep(10)
            assert writer.lost == 1, "nobody has tried"
            nursery.cancel_scope.cancel()


async def test_waiting_lines_are_written_when_somebody_reads(pipe: Pipe) -> None:
    writer = NonBlockingWriter(pipe[1], note)
    seen = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        await trio.testing.wait_all_tasks_blocked()
        await trio.to_thread.run_sync(fill, writer, 1500)  # from another thread, as logging does
        with trio.fail_after(10):
            os.set_blocking(pipe[0], False)
            while seen.count(b"\n") < 1500:
                await trio.lowlevel.wait_readable(pipe[0])
                seen += read_all(pipe[0])
        nursery.cancel_scope.cancel()
    assert [int(line[:6]) for line in seen.decode().splitlines()] == list(range(1500))


async def test_a_deferred_line_waits_a_moment_for_more(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triosmtp.logs.non_blocking_writer._MOMENT", 0.5)
    writer = NonBlockingWriter(pipe[1], note)
    os.set_blocking(pipe[0], False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        await trio.testing.wait_all_tasks_blocked()
        writer.defer("one\n")
        writer.write("two\n")
        assert os.read(pipe[0], 100) == b"one\ntwo\n", "it goes with what is written next"
        writer.defer("three\n")
        writer.defer("four\n")
        with pytest.raises(BlockingIOError):
            os.read(pipe[0], 100)
        with trio.fail_after(10):
            await trio.lowlevel.wait_readable(pipe[0])
        assert os.read(pipe[0], 100) == b"three\nfour\n"
        for _ in range(150):  # more than is gathered
            writer.defer("five\n")
        assert os.read(pipe[0], 65536).count(b"\n") == 100
        await trio.to_thread.run_sync(writer.write, "thread\n")
        assert read_all(pipe[0]).endswith(b"thread\n"), "another thread's line is behind what was said before"
        writer.defer("last\n")
        nursery.cancel_scope.cancel()
    assert read_all(pipe[0]) == b"last\n"
    writer.defer("after\n")
    assert read_all(pipe[0]) == b"after\n", "nobody would come back to it"


async def test_a_moment_that_says_more_than_a_pipe_takes(pipe: Pipe) -> None:
    writer = NonBlockingWriter(pipe[1], note)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(95):  # 95 kB at once
            writer.defer(f"{number:06d} {'x' * 992}\n")
        seen = b""
        os.set_blocking(pipe[0], False)
        with trio.fail_after(10):
            while seen.count(b"\n") < 95:
                await trio.lowlevel.wait_readable(pipe[0])
                seen += read_all(pipe[0])
        nursery.cancel_scope.cancel()
    assert [int(line[:6]) for line in seen.decode().splitlines()] == list(range(95))
    assert {len(line) for line in seen.splitlines()} == {999}


def test_a_reader_that_has_gone_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        writer = NonBlockingWriter(stream, note)
        writer.write("nobody\n")
        writer.close()


def test_a_file_takes_everything(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        writer = NonBlockingWriter(stream, note)
        fill(writer, 3000)
        writer.close()
    assert len((tmp_path / "log").read_text().splitlines()) == 3000


def test_pending_lines_are_written_at_the_end(pipe: Pipe) -> None:
    writer = NonBlockingWriter(pipe[1], note)
    fill(writer, 1000)
    seen: list[bytes] = []

    def read() -> None:
        while b"000999" not in b"".join(seen):
            seen.append(os.read(pipe[0], 65536))

    reader = threading.Thread(target=read)
    reader.start()
    writer.close()
    reader.join()
    assert len(b"".join(seen).splitlines()) == 1000


def test_a_server_whose_log_is_not_read_continues(tmp_path: Path) -> None:
    conf = tmp_path / "t.conf"
    conf.write_text('Deliver_To = "discard:"\nOpen_Relay = true\nESMTP_Listener { Listen "127.0.0.1:0" { } }\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "triosmtp", "serve", "-c", str(conf), "--control", str(tmp_path / "c")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,  # never read while it runs
        text=True,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().rsplit(" ", 1)[1])
        with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
            for _ in range(400):  # 400 lines of more than 200 octets each fill 64 KiB
                client.sendmail("a@example.org", [f"{'b' * 60}@example.org"], b"Subject: x\r\n\r\nx\r\n")
            assert client.noop()[0] == 250
    finally:
        process.terminate()
        _, err = process.communicate(timeout=20)
    assert err.count(" accepted ") == 400
