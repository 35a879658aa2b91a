"""The path of the control socket comes from systemd, the session of the user, or the configuration."""

from pathlib import Path

import pytest

from triosmtp import parse_config
from triosmtp.control import control_path
from triosmtp.control.control_path import default_control_path, find_control_path


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(control_path, "_SERVICE_PATH", tmp_path / "service" / "control")


def test_the_runtime_directory_of_the_unit_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/one:/run/two")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert default_control_path() == Path("/run/one/control")


def test_the_runtime_directory_of_the_user_comes_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert default_control_path() == Path("/run/user/1000/triosmtp/control")


@pytest.mark.parametrize("relative", ["", "run/user"])
def test_a_relative_runtime_directory_does_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, relative: str
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", relative)
    assert default_control_path() == tmp_path / ".local/state/triosmtp/control"


def test_a_console_finds_the_listen_of_the_configuration() -> None:
    config = parse_config('ESMTP_Listener { Listen ":25" { } } Control_Listener { Listen "/run/x/control" { } }')
    assert find_control_path(config) == Path("/run/x/control")


def test_a_console_finds_the_service_if_the_default_is_missing(tmp_path: Path) -> None:
    service = tmp_path / "service" / "control"
    assert find_control_path() == default_control_path()
    service.parent.mkdir()
    service.touch()
    assert find_control_path() == service
    default_control_path().parent.mkdir(parents=True)
    default_control_path().touch()
    assert find_control_path() == default_control_path()
