"""A watch of certificate files costs nothing while nothing changes, and what it does without inotify."""

import ctypes
import errno
import os
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from math import inf
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio
from attrs import Factory, define
from renewal_server import Told, fingerprint, inotify_descriptors, issue
from trio.testing import MockClock, wait_all_tasks_blocked
from watchfiles._rust_notify import RustNotify

from triosmtp.event import CertificateReloadFailed
from triosmtp.testing import Authority
from triosmtp.tls import CertificateFiles, ContextStore, TLSSettings, certificate_renewal, inotify
from triosmtp.tls.certificate_renewal import watch_certificates
from triosmtp.tls.inotify import Inotify
from triosmtp.tls.path_entries import entries_of


def latin1(folder: Path) -> Path:
    """Return a path in `folder` that is not UTF-8."""
    return Path(os.fsdecode(os.fsencode(folder) + b"/\xe9t\xe9"))


class Asked:
    """The real one, which counts the questions."""

    count = 0
    asked = trio.Event()

    def __init__(self, *arguments: Any) -> None:
        self._real = RustNotify(*arguments)
        self.close = self._real.close

    def watch(self, *arguments: Any) -> Any:
        found = self._real.watch(*arguments)
        Asked.count += 1
        trio.from_thread.run_sync(Asked.asked.set)
        return found


class Deaf(Asked):
    """Reports nothing: its queue in the kernel has overflowed."""

    def watch(self, *arguments: Any) -> Any:
        super().watch(*arguments)
        return "timeout"


class Counted(Inotify):
    """The real one, which keeps those that are open."""

    open: ClassVar[set["Counted"]] = set()

    def __init__(self, folders: Iterable[str]) -> None:
        super().__init__(folders)
        self.open.add(self)

    def close(self) -> None:
        super().close()
        self.open.discard(self)


@pytest.fixture(autouse=True)
def quiet_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Watch nothing above `tmp_path`: others use these folders meanwhile.  Count what is asked and opened."""

    def below(paths: Iterable[Path]) -> frozenset[Path]:
        return frozenset(entry for entry in entries_of(paths) if entry.parent.is_relative_to(tmp_path))

    monkeypatch.setattr(Asked, "count", 0)
    monkeypatch.setattr(Asked, "asked", trio.Event())
    monkeypatch.setattr(Counted, "open", set())
    monkeypatch.setattr(certificate_renewal, "entries_of", below)
    monkeypatch.setattr(certificate_renewal, "RustNotify", Asked)
    monkeypatch.setattr(certificate_renewal, "Inotify", Counted)


@define
class Watched:
    """A store that is watched."""

    authority: Authority
    folder: Path
    store: ContextStore
    settings: TLSSettings
    told: Told = Factory(Told)
    looked: trio.Event = Factory(trio.Event)
    """Set when the files are looked at."""

    def wanted(self) -> list[TLSSettings]:
        self.looked.set()
        return [self.settings]

    async def renew(self) -> None:
        """Renew the certificate, and wait until it is in force."""
        credential = issue(self.authority)
        credential.write(self.folder, "mx")
        with trio.fail_after(20):
            event = await self.told.wait_for_set(credential)
        assert event.fingerprint_sha256 == fingerprint(credential)


@asynccontextmanager
async def watched(folder: Path, rescan: float = inf, via: Path | None = None) -> AsyncIterator[Watched]:
    authority = Authority.create()
    certificate, key = issue(authority).write(folder, "mx")
    if via is not None:
        certificate, key = via / certificate.name, via / key.name
    settings = TLSSettings(certificates=(CertificateFiles(certificate, key),))
    store = ContextStore()
    store.prepare(settings)
    it = Watched(authority, folder, store, settings)

    async def watch(*, task_status: trio.TaskStatus[None]) -> None:
        await watch_certificates(store, it.wanted, it.told, rescan=rescan, task_status=task_status)

    async with trio.open_nursery() as nursery:
        await nursery.start(watch)
        await wait_all_tasks_blocked()
        it.looked = trio.Event()
        yield it
        nursery.cancel_scope.cancel()
    assert not Counted.open


class Steps(trio.abc.Instrument):
    """Every step of a task other than this one."""

    def __init__(self) -> None:
        self._own = trio.lowlevel.current_task()
        self.names: list[str] = []

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is not self._own:
            self.names.append(task.name)


async def test_an_idle_watch_is_never_woken(tmp_path: Path, mock_clock: MockClock) -> None:
    async with watched(tmp_path) as it:
        steps = Steps()
        trio.lowlevel.add_instrument(steps)
        for _ in range(10):
            mock_clock.jump(3600)
            await wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(steps)
        assert (steps.names, Asked.count, len(Counted.open)) == ([], 0, 1)

        mock_clock.rate = 1
        await it.renew()
        assert Asked.count >= 1


async def test_the_reports_of_watchfiles_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate_renewal, "_QUIET", 0)
    async with watched(tmp_path) as it:
        for number in range(2):  # when it is asked again, the first answer has had its effect
            Asked.asked = trio.Event()
            (tmp_path / f"another file {number}").write_bytes(b"")
            with trio.fail_after(20):
                await Asked.asked.wait()
        assert not it.looked.is_set()
        await it.renew()
        assert it.looked.is_set()


async def test_a_removed_folder_is_noticed_without_a_report_of_watchfiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificate_renewal, "RustNotify", Deaf)
    folder = tmp_path / "tls"
    folder.mkdir()
    async with watched(folder) as it:
        shutil.rmtree(folder)
        with trio.fail_after(20):
            await it.told.wait(CertificateReloadFailed)


async def test_a_name_that_is_not_utf8_ends_no_watch(tmp_path: Path) -> None:
    """watchfiles reports nothing any more from then on, only errors."""
    async with watched(tmp_path) as it:
        for _ in range(2):
            latin1(tmp_path).write_bytes(b"")
            with trio.fail_after(20):
                await it.looked.wait()
            await it.renew()
            it.looked = trio.Event()


async def test_files_in_a_folder_whose_name_is_not_utf8(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = latin1(tmp_path)
    os.mkdir(folder)  # noqa: PTH102
    link = tmp_path / "link"
    link.symlink_to(folder)
    async with watched(folder, rescan=0.01, via=link) as it:
        await it.renew()
    assert caplog.text.count("certificate files cannot be watched; they are read every 30 s") == 1


# Without inotify


class NoInotify:
    """A libc of another system."""


class Limited:
    """libc when a limit is reached: instances of the user, or watches."""

    def __init__(self, libc: Any, number: int) -> None:
        self._number = number
        if number == errno.EMFILE:
            self.inotify_init1 = self._fail
        else:
            self.inotify_init1, self.inotify_add_watch = libc.inotify_init1, self._fail

    def _fail(self, *_: object) -> int:
        ctypes.set_errno(self._number)
        return -1


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EMFILE, errno.ENOSPC], ids=errno.errorcode.get)
async def test_without_inotify_watchfiles_is_asked_twice_a_second(
    tmp_path: Path,
    mock_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    libc = NoInotify() if number == errno.ENOSYS else Limited(inotify._libc, number)
    monkeypatch.setattr(inotify, "_libc", libc)
    before = inotify_descriptors()
    async with watched(tmp_path) as it:
        assert not Counted.open
        assert inotify_descriptors() == before + 1  # that of watchfiles
        for _ in range(3):
            Asked.asked = trio.Event()
            while not Asked.asked.is_set():  # the thread of the last question may not be back yet
                mock_clock.jump(0.5)
                await wait_all_tasks_blocked()
        assert Asked.count == 3
        mock_clock.rate = 1
        await it.renew()
        await it.renew()
    lines = [record.getMessage() for record in caplog.records if "polled" in record.getMessage()]
    assert len(lines) == 1
    assert lines[0].startswith("changes of certificate files are polled every 0.5 s: ")
    assert os.strerror(number) in lines[0]
