"""`triosmtp passwd`: what it writes is what AUTH takes, and nobody else can read it."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from triosmtp.auth import SCHEMES, PasswordFile
from triosmtp.daemon.passwd import passwd_command


def passwd(*arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "triosmtp.cli", "passwd", *arguments]
    return subprocess.run(command, input=said, capture_output=True, text=True, check=False)


def test_users_come_and_go(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    for scheme in (*SCHEMES, "cleartext"):
        done = passwd(str(path), scheme, "--stdin", "--scheme", scheme, said="p\u00e4ss word\n")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    file = PasswordFile(path)
    for scheme in (*SCHEMES, "cleartext"):
        assert file.lookup(scheme).verify("p\u00e4ss word")
        assert not file.lookup(scheme).verify("pass word")
    listed = passwd(str(path), "--list").stdout
    assert listed.splitlines() == [f"{scheme}: {scheme}" for scheme in (*SCHEMES, "cleartext")]
    path.chmod(0o640)
    assert passwd(str(path), "scrypt", "--delete").returncode == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert not file.lookup("scrypt").known
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "said", "error"),
    [
        (("a:b", "--stdin"), "x\n", "expected a user without a colon"),
        (("--stdin",), "x\n", "expected a user without a colon"),
        (("joe", "--stdin"), "\n", "an empty name or password"),
        (("joe", "--stdin"), "\x07\n", "SASLprep forbids"),
        (("joe", "--delete"), "", "has no user joe"),
    ],
)
def test_what_is_refused(tmp_path: Path, arguments: tuple[str, ...], said: str, error: str) -> None:
    done = passwd(str(tmp_path / "passwords"), *arguments, said=said)
    assert done.returncode == 1
    assert error in done.stderr
    assert not (tmp_path / "passwords").exists()
    done = passwd(str(tmp_path / "no" / "passwords"), "joe", "--stdin", said="x\n")
    assert done.returncode == 1
    assert "No such file" in done.stderr


def test_it_asks_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    said = iter(["one", "two", "three", "three"])
    monkeypatch.setattr("getpass.getpass", lambda _: next(said))
    path = tmp_path / "passwords"

    def ask() -> int:
        return passwd_command(path, "joe", scheme="cleartext", from_stdin=False, delete=False, list_users=False)

    assert ask() == 1
    assert "not the same" in capsys.readouterr().err
    assert ask() == 0
    assert path.read_text() == "joe:three\n"
