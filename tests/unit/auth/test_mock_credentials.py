"""The key of mock credentials: kept in the state folder, or temporary."""

import pickle
from pathlib import Path

import pytest

from triosmtp.auth import MockKey


def test_the_key_is_kept_in_the_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    state = tmp_path / "var" / "state"
    monkeypatch.setenv("STATE_DIRECTORY", str(state))
    assert MockKey().get() != MockKey().get()
    assert not state.exists()
    key = MockKey(kept=True).get()
    assert len(key) == 32
    assert MockKey(kept=True).get() == key
    path = state / "mock_credentials.key"
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (key, 0o600)
    assert list(state.iterdir()) == [path]
    assert not caplog.messages


def test_a_key_that_cannot_be_kept_is_temporary_and_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    path = tmp_path / "mock_credentials.key"

    def refused(reason: str) -> None:
        key = MockKey(kept=True)
        handed = pickle.loads(pickle.dumps(key))  # before it was needed
        assert handed.get() == key.get() == pickle.loads(pickle.dumps(key)).get()
        assert reason in caplog.messages[-1]

    path.write_bytes(b"x" * 32)
    path.chmod(0o640)
    refused("accessible to others")
    path.chmod(0o600)
    path.write_bytes(b"x" * 31)
    refused("not 32 octets")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    refused("Too many levels of symbolic links")
    monkeypatch.setenv("STATE_DIRECTORY", str(path))
    refused("Not a directory")


def test_the_key_of_a_file_is_the_same_on_all_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "shared.key"
    file.touch(0o600)
    file.write_bytes(b"k" * 32)
    for node in ("one", "two"):
        monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / node))
        key = MockKey(kept=True, file=file)
        key.check()
        assert key.get() == b"k" * 32
        assert not (tmp_path / node).exists()


@pytest.mark.parametrize(("content", "mode"), [(b"k" * 31, 0o600), (b"k" * 33, 0o600), (b"k" * 32, 0o640), (None, 0)])
def test_a_file_that_is_no_key_is_an_error(tmp_path: Path, content: bytes | None, mode: int) -> None:
    file = tmp_path / "shared.key"
    if content is not None:
        file.write_bytes(content)
        file.chmod(mode)
    with pytest.raises((OSError, ValueError)):
        MockKey(kept=True, file=file).check()
    assert content is not None or not file.exists(), "it is never created"
