"""Changes that end the wait, and events that do not."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from renewal_server import inotify_descriptors
from trio.testing import wait_all_tasks_blocked

from triosmtp.tls.inotify import Inotify


@asynccontextmanager
async def waiting(folder: Path) -> AsyncIterator[Callable[[], bool | None]]:
    """Wait for a change of `folder`; yield a function that returns what `Inotify.wait` returned, or None."""
    instance, answers = Inotify([str(folder)]), []

    async def wait() -> None:
        answers.append(await instance.wait())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        yield lambda: answers[-1] if answers else None
        nursery.cancel_scope.cancel()
    instance.close()


def rename_into(folder: Path) -> None:
    other = folder.parent / "other"
    other.write_bytes(b"new")
    other.rename(folder / "file")


CHANGES: dict[str, Callable[[Path], object]] = {
    "created": lambda folder: (folder / "new").touch(),
    "written": lambda folder: (folder / "file").write_bytes(b"new"),
    "renamed into": rename_into,
    "removed": lambda folder: (folder / "file").unlink(),
    "made readable": lambda folder: (folder / "file").chmod(0o600),
    "linked": lambda folder: (folder / "link").symlink_to("file"),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_in_a_folder_ends_the_wait(tmp_path: Path, change: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_bytes(b"old")
    async with waiting(folder) as answer:
        assert answer() is None
        CHANGES[change](folder)
        await wait_all_tasks_blocked()
        assert answer() is True


async def test_a_file_that_its_writer_keeps_open(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb", buffering=0) as file:
        async with waiting(tmp_path) as answer:
            file.write(b"new")
            await wait_all_tasks_blocked()
            assert answer() is True


async def test_reading_is_no_change(tmp_path: Path) -> None:
    """Else each look at the files would be the cause of the next one."""
    (tmp_path / "file").write_bytes(b"x")
    async with waiting(tmp_path) as answer:
        assert (tmp_path / "file").read_bytes() == b"x"
        assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208
        await wait_all_tasks_blocked()
        assert answer() is None


LOSSES: dict[str, Callable[[Path], object]] = {
    "removed": lambda folder: folder.rmdir(),
    "renamed": lambda folder: folder.rename(folder.parent / "other"),
}


@pytest.mark.parametrize("loss", LOSSES)
async def test_a_folder_that_is_no_longer_at_its_path(tmp_path: Path, loss: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    async with waiting(folder) as answer:
        LOSSES[loss](folder)
        await wait_all_tasks_blocked()
        assert answer() is False


def queue_limit() -> int:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 1 << 17:
        pytest.skip(f"the kernel keeps {limit} events")
    return limit


async def test_more_events_than_the_kernel_keeps(tmp_path: Path) -> None:
    limit = queue_limit()
    files = [tmp_path / "a", tmp_path / "b"]  # of two files, since the same event twice is kept once
    for file in files:
        file.touch()
    async with waiting(tmp_path) as answer:
        for number in range(limit + 2):
            files[number % 2].chmod(0o600)
        await wait_all_tasks_blocked()
        assert answer() is False


async def test_a_folder_that_is_missing_or_a_file_is_left_out(tmp_path: Path) -> None:
    before = inotify_descriptors()
    (tmp_path / "file").touch()
    instance = Inotify([str(tmp_path / "none"), str(tmp_path / "file"), str(tmp_path)])
    assert inotify_descriptors() == before + 1
    (tmp_path / "new").touch()
    assert await instance.wait()
    instance.close()
    assert inotify_descriptors() == before
