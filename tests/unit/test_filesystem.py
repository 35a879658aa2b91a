import os
import stat
from pathlib import Path

import pytest

from triosmtp.filesystem import is_tmpfs, make_directory, state_directory


def test_where_the_state_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/joe")
    assert state_directory() == Path("/home/joe/.local/state/triosmtp")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert state_directory() == Path("/home/joe/.local/state/triosmtp")
    monkeypatch.setenv("XDG_STATE_HOME", "/srv/state")
    assert state_directory() == Path("/srv/state/triosmtp")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/triosmtp:/var/lib/other")
    assert state_directory() == Path("/var/lib/triosmtp")


def test_new_folders_are_private_and_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    sync = os.fsync

    def record(fd: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
        sync(fd)

    monkeypatch.setattr(os, "fsync", record)
    make_directory(tmp_path / "a" / "b")
    assert synced == [str(tmp_path), str(tmp_path / "a")]
    assert [stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "a", tmp_path / "a" / "b")] == [0o700, 0o700]
    make_directory(tmp_path / "a" / "b")
    assert len(synced) == 2


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_directory(tmp_path / "file")


@pytest.mark.skipif(not Path("/dev/shm").is_mount(), reason="there is no tmpfs at /dev/shm")
def test_a_folder_in_memory_is_detected() -> None:
    assert is_tmpfs(Path("/dev/shm"))
    assert is_tmpfs(Path("/dev/shm/not/there"))
    assert not is_tmpfs(Path("/proc/self"))
