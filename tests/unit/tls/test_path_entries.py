"""Which directory entries have a say in what a path means."""

import os
from pathlib import Path

from triosmtp.tls.path_entries import entries_of


def seen(folder: Path, path: Path) -> set[str]:
    """Return the entries inside of `folder`, relative to it."""
    return {str(entry.relative_to(folder)) for entry in entries_of([path]) if entry.is_relative_to(folder)} - {"."}


def test_every_component_counts(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/cert.pem").touch()
    assert seen(tmp_path, tmp_path / "a/b/cert.pem") == {"a", "a/b", "a/b/cert.pem"}
    above = {Path(*tmp_path.parts[:length]) for length in range(2, len(tmp_path.parts) + 1)}
    assert above <= entries_of([tmp_path / "a/b/cert.pem"])


def test_certbot(tmp_path: Path) -> None:
    (tmp_path / "live/mx").mkdir(parents=True)
    (tmp_path / "archive/mx").mkdir(parents=True)
    (tmp_path / "archive/mx/cert7.pem").touch()
    (tmp_path / "live/mx/cert.pem").symlink_to("../../archive/mx/cert7.pem")
    found = seen(tmp_path, tmp_path / "live/mx/cert.pem")
    assert found == {"live", "live/mx", "live/mx/cert.pem", "archive", "archive/mx", "archive/mx/cert7.pem"}


def test_a_secret_of_kubernetes(tmp_path: Path) -> None:
    (tmp_path / "..2026_1").mkdir()
    (tmp_path / "..2026_1/tls.crt").touch()
    (tmp_path / "..data").symlink_to("..2026_1")
    (tmp_path / "tls.crt").symlink_to("..data/tls.crt")
    assert seen(tmp_path, tmp_path / "tls.crt") == {"tls.crt", "..data", "..2026_1", "..2026_1/tls.crt"}


def test_a_folder_behind_a_link_that_is_absolute(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert seen(tmp_path, tmp_path / "link/x.pem") == {"link", "real", "real/x.pem"}


def test_what_is_missing_is_waited_for_where_it_would_appear(tmp_path: Path) -> None:
    assert seen(tmp_path, tmp_path / "a/b/cert.pem") == {"a"}
    (tmp_path / "dangling.pem").symlink_to("nowhere/cert.pem")
    assert seen(tmp_path, tmp_path / "dangling.pem") == {"dangling.pem", "nowhere"}


def test_a_file_where_a_folder_should_be_and_a_loop_end_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    assert seen(tmp_path, tmp_path / "file/cert.pem") == {"file"}
    assert seen(tmp_path, tmp_path / "loop/cert.pem") == {"loop"}


def test_a_relative_path(tmp_path: Path) -> None:
    path = tmp_path / "cert.pem"
    assert entries_of([Path(os.path.relpath(path))]) >= entries_of([path])
