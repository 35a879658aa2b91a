"""Files with one secret: what is read, when it is read again, and that no text holds it."""

import logging
from pathlib import Path

import pytest
import trio
import trio.testing

from triosmtp.delivery import SecretFile, SecretFileError

SECRET = "Gehe!m-0815"


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("content", "secrets", "whole", "found"),
    [
        (f"{SECRET}\n", 1, False, (SECRET,)),
        (f"\n  {SECRET}  \r\n\n", 1, False, (SECRET,)),
        (f"{SECRET}\nold\n", 2, False, (SECRET, "old")),
        (f"-----\n{SECRET}\n", 1, True, (f"-----\n{SECRET}\n",)),
    ],
)
async def test_secrets_are_read(
    tmp_path: Path, content: str, secrets: int, whole: bool, found: tuple[str, ...]
) -> None:
    file = SecretFile(write(tmp_path / "s", content), secrets=secrets, whole=whole)
    file.check()
    assert await file.read() == found
    assert SECRET not in f"{file} {file!r}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected one secret, found 0"),
        (f"{SECRET}\n{SECRET}2", "expected one secret, found 2"),
        (b"\xff" + SECRET.encode(), "not UTF-8"),
        (SECRET * 7000, "longer than 64 KiB"),
    ],
)
async def test_an_unusable_file_is_an_error_without_the_secret(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    file = SecretFile(write(tmp_path / "s", content))
    with pytest.raises(SecretFileError, match=message) as caught:
        file.check()
    assert SECRET not in str(caught.value) + repr(caught.value.__context__)
    with pytest.raises(SecretFileError):
        await file.read()
    write(tmp_path / "s", "good")
    assert await file.read() == ("good",)  # at once: it was never read before


def test_a_missing_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(SecretFileError, match=str(path)):
            SecretFile(path).check()


async def test_a_changed_file_is_read_again_and_a_broken_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(trio, "current_time", lambda: clock[0])
    path = write(tmp_path / "s", SECRET)
    file = SecretFile(path)
    assert await file.read() == (SECRET,)
    write(path, "second")
    assert await file.read() == (SECRET,)  # within the same second
    clock[0] += 1
    assert await file.read() == ("second",)
    write(path, "")
    for _ in range(2):
        clock[0] += 1
        with caplog.at_level(logging.ERROR):
            assert await file.read() == ("second",)
    assert [record.getMessage() for record in caplog.records] == [
        f'"{path}": expected one secret, found 0: the former secret stays in use'
    ]


def test_a_file_that_others_can_read_is_a_warning(tmp_path: Path) -> None:
    file = SecretFile(write(tmp_path / "s", SECRET))
    assert not file.exposure
    file.path.chmod(0o640)
    assert "DANGER: others can read or change it (mode 0640)" in file.exposure
    assert not SecretFile(tmp_path / "none").exposure
