"""`triosmtp examples` copies into a new or empty folder, and never over other files."""

from pathlib import Path

import pytest

from triosmtp.commands.examples import examples_command


def test_the_examples_are_copied_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "examples"
    assert examples_command(target) == 0
    listed = {Path(line) for line in capsys.readouterr().out.splitlines()}
    assert listed == {path for path in target.rglob("*") if path.is_file()}
    assert target / "reject_unverified" / "triosmtp.conf" in listed
    assert not list(target.rglob("__pycache__"))


def test_a_folder_that_is_not_empty_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").touch()
    assert examples_command(tmp_path) == 73
    assert capsys.readouterr().err == f"triosmtp: {tmp_path}: the folder is not empty\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_target_that_cannot_be_a_folder_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert examples_command(tmp_path / "file") == 73
    assert capsys.readouterr().err == f"triosmtp: {tmp_path / 'file'}: Not a directory\n"
