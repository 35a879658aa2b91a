import os
import resource
import stat
import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import aclosing, contextmanager, suppress
from errno import EEXIST, EFBIG
from itertools import product
from pathlib import Path
from random import Random

import pytest
import trio

from triosmtp.message.spool import Body, Spool, SpoolError, _memory

KIB = 1024


def descriptors() -> set[str]:
    """Return the files that are open now, each as ``number:path``."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the listing's own descriptor is closed by now
            if stat.S_ISREG(entry.stat().st_mode):
                found.add(f"{entry.name}:{entry.readlink()}")
    return found


def is_due(spool: Spool) -> bool:
    return spool.due  # asked through a function: a type checker takes the attribute for constant


@pytest.fixture(autouse=True)
def no_descriptor_left() -> Iterator[None]:
    before = descriptors()
    yield
    assert descriptors() == before


async def spooled(directory: Path, data: bytes, step: int = 64 * KIB) -> Body:
    spool = Spool(directory)
    for start in range(0, len(data), step):
        due = spool.add(data[start : start + step])
        assert due == spool.due
        if due:
            await spool.flush()
    return await spool.finish()


async def collected(body: Body) -> bytes:
    async with aclosing(body.chunks()) as chunks:
        return b"".join([chunk async for chunk in chunks])


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Yield a disk that fills up, for the processes of anyone: files cannot grow beyond ``size``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 1, 64 * KIB, 512 * KIB, 512 * KIB + 1, 704 * KIB, 3000 * KIB + 7])
async def test_a_body_equals_its_input(tmp_path: Path, size: int) -> None:
    data = Random(size).randbytes(size)
    body = await spooled(tmp_path / "spool", data)
    assert body.size == size
    assert body.head == data[: 64 * KIB]
    assert await collected(body) == data
    assert await collected(body) == data
    with body.open() as reader:
        assert reader.read() == data
    body.close()


async def test_bodies_of_any_chunks_and_flushes(tmp_path: Path) -> None:
    count = 200 if os.environ.get("TRIOSMTP_JUDGE") else 20
    print(f"{count} of 200 random bodies")
    for seed in range(count):
        random = Random(seed)
        spool, data = Spool(tmp_path), b""
        for _ in range(random.randrange(40)):
            chunk = random.randbytes(random.choice([0, 1, 70, 2000, 100_000]))
            spool.add(chunk)
            data += chunk
            assert spool.size == len(data)
            if spool.due or random.random() < 0.1:
                await spool.flush()
        body = await spool.finish()
        assert (await collected(body), body.size, body.head) == (data, len(data), data[: 64 * KIB])
        body.close()


async def test_small_bodies_touch_no_disk(tmp_path: Path) -> None:
    body = await spooled(tmp_path / "spool", b"x" * 512 * KIB)
    assert not (tmp_path / "spool").exists()
    body.close()


async def test_the_file_has_no_name_and_the_folder_is_private(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "spool"
    body = await spooled(folder, b"x" * 2000 * KIB)
    assert list(folder.iterdir()) == []
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    status = _spool_file(folder)
    assert (status.st_nlink, stat.S_IMODE(status.st_mode)) == (0, 0o600)
    body.close()


async def test_a_file_system_without_unnamed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "_O_TMPFILE_WORKS", False)
    body = await spooled(tmp_path, b"x" * 2000 * KIB)
    status = _spool_file(tmp_path)
    assert (status.st_nlink, stat.S_IMODE(status.st_mode)) == (0, 0o600)
    assert await collected(body) == b"x" * 2000 * KIB
    body.close()


def _spool_file(folder: Path) -> os.stat_result:
    [entry] = [d for d in descriptors() if f":{folder}/" in d]
    return os.fstat(int(entry.partition(":")[0]))


async def test_a_removed_folder_is_created_again(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    (await spooled(folder, b"x" * 1000 * KIB)).close()
    folder.rmdir()
    (await spooled(folder, b"x" * 1000 * KIB)).close()
    assert folder.is_dir()


async def test_memory_stays_within_one_mebibyte(tmp_path: Path) -> None:
    await trio.to_thread.run_sync(int)  # the thread's own memory is not the message's
    tracemalloc.start()
    try:
        spool = Spool(tmp_path)
        for _ in range(80):
            spool.add(bytes(256 * KIB))
            if spool.due:
                await spool.flush()
        body = await spool.finish()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert body.size == 80 * 256 * KIB
    assert peak < 1024 * KIB + 64 * KIB  # some of it for the machinery
    body.close()


async def test_tiny_chunks_are_due_before_they_fill_memory(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for _ in range(1023):
        spool.add(b"ab")
    assert not is_due(spool)
    spool.add(b"ab")
    assert is_due(spool)
    await spool.flush()
    assert not is_due(spool)
    body = await spool.finish()
    assert await collected(body) == b"ab" * 1024
    body.close()


async def test_a_full_disk_is_an_error_and_a_retry_writes_no_octet_twice(tmp_path: Path) -> None:
    data = Random(1).randbytes(900 * KIB)
    spool = Spool(tmp_path)
    for start in range(0, len(data), 100 * KIB):
        spool.add(data[start : start + 100 * KIB])
    with file_size_limit(250 * KIB), pytest.raises(SpoolError) as caught:
        await spool.flush()
    assert caught.value.errno == EFBIG
    assert caught.value.path == tmp_path
    assert str(tmp_path) in str(caught.value)
    assert is_due(spool)
    body = await spool.finish()
    assert await collected(body) == data
    body.close()


async def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_little(fd: int, buffers: list[memoryview], offset: int) -> int:
        return os.pwrite(fd, b"".join(buffers)[:77_777], offset)

    data = Random(4).randbytes(2000 * KIB)
    monkeypatch.setattr(os, "pwritev", write_little)
    body = await spooled(tmp_path, data)
    assert await collected(body) == data
    body.close()


async def test_a_failed_spool_leaves_no_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.add(bytes(900 * KIB))
    with file_size_limit(1), pytest.raises(SpoolError):
        await spool.finish()
    spool.close()
    spool.close()


async def test_a_folder_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    spool = Spool(tmp_path / "file" / "spool")
    spool.add(bytes(900 * KIB))
    with pytest.raises(SpoolError) as caught:
        await spool.flush()
    assert caught.value.errno == EEXIST
    spool.close()


async def test_a_closed_spool_accepts_no_data(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.add(b"x")
    spool.close()
    with pytest.raises(ValueError, match="closed"):
        spool.add(b"x")
    with pytest.raises(ValueError, match="closed"):
        await spool.finish()


async def test_a_cancelled_flush_writes_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwritev

    def cancel_then_write(fd: int, buffers: list[memoryview], offset: int) -> int:
        trio.from_thread.run_sync(scope.cancel)
        return write(fd, buffers, offset)

    spool = Spool(tmp_path)
    spool.add(b"a" * 900 * KIB)
    with trio.CancelScope() as before:
        before.cancel()
        await spool.flush()
    assert before.cancelled_caught
    assert is_due(spool)  # nothing was begun

    monkeypatch.setattr(os, "pwritev", cancel_then_write)
    with trio.CancelScope() as scope:
        await spool.flush()
        assert not is_due(spool)  # the thread was waited for
        await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    spool.close()


async def test_readers_do_not_disturb_one_another_and_outlive_the_body(tmp_path: Path) -> None:
    data = Random(2).randbytes(1500 * KIB)
    body = await spooled(tmp_path, data)
    with body.open() as one, body.open() as two:
        assert one.read(300_000) == data[:300_000]
        assert two.read(10) == data[:10]
        body.close()
        assert one.read() == data[300_000:]
        assert two.read() == data[10:]
    with pytest.raises(ValueError, match="closed"):
        body.open()


async def test_reading_may_stop_early(tmp_path: Path) -> None:
    body = await spooled(tmp_path, bytes(1500 * KIB))
    async with aclosing(body.chunks()) as chunks:
        async for chunk in chunks:
            assert len(chunk) == 256 * KIB
            break
    body.close()


async def test_a_body_without_a_free_descriptor_is_an_error(tmp_path: Path) -> None:
    body = await spooled(tmp_path, b"x" * 700 * KIB)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        with pytest.raises(SpoolError, match="Too many open files"):
            await collected(body)
        with pytest.raises(SpoolError, match="Too many open files"):
            await body.part(0, 10)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert await body.part(0, 10) == b"x" * 10
    body.close()


async def test_a_truncated_file_is_an_error(tmp_path: Path) -> None:
    body = await spooled(tmp_path, bytes(1500 * KIB))
    [entry] = [d for d in descriptors() if f":{tmp_path}/" in d]
    os.ftruncate(int(entry.partition(":")[0]), 1000)
    with pytest.raises(SpoolError, match="early"):
        await collected(body)
    body.close()


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        (b"A: 1\r\nB: 2\r\n\r\ntext\r\n", b"A: 1\r\nB: 2\r\n"),
        (b"A: 1\r\n\r\n", b"A: 1\r\n"),
        (b"A: 1\r\n", b"A: 1\r\n"),
        (b"\r\ntext\r\n\r\nmore", b""),
        (b"", b""),
        (b"A: 1\n\ntext\r\n\r\n", b"A: 1\n"),
        (b"A: " + b"x" * 70_000 + b"\r\n\r\n", b"A: " + b"x" * (64 * KIB - 3)),
    ],
)
def test_the_header_block(data: bytes, headers: bytes) -> None:
    assert Body(data).headers() == headers


def test_the_header_block_ends_at_the_first_empty_line_of_either_kind() -> None:
    for parts in product((b"", b"a: b", b"\n", b"\r\n", b"\r", b"\n\r"), repeat=4):
        data = b"".join(parts)
        lines = data.split(b"\n")
        empty = next((number for number, line in enumerate(lines[:-1]) if line in {b"", b"\r"}), None)
        expected = data if empty is None else b"".join(line + b"\n" for line in lines[:empty])
        assert Body(data).headers() == expected, data


async def test_a_body_is_finished_in_memory_unless_it_belongs_in_a_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.add(b"x" * 512 * KIB)
    body = spool.finish_in_memory()
    assert body is not None
    with body.open() as reader:
        assert reader.read() == b"x" * 512 * KIB
    body.close()
    spool.close()
    with pytest.raises(ValueError, match="closed"):
        spool.finish_in_memory()
    spool = Spool(tmp_path)
    spool.add(b"x" * (512 * KIB + 1))
    assert spool.finish_in_memory() is None
    body = await spool.finish()
    assert (body.size, await collected(body)) == (512 * KIB + 1, b"x" * (512 * KIB + 1))
    body.close()
    assert _memory.held == 0
