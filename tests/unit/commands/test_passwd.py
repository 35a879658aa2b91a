"""`triosmtp passwd`: what it writes is what AUTH takes, and nobody else can read it."""

import io
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from triosmtp.auth import SCHEMES, PasswordFile
from triosmtp.commands.passwd import passwd_command


def passwd(*arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "triosmtp", "passwd", *arguments]
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
    assert not file.lookup("cleartext").verify("pass word")
    listed = passwd(str(path), "--list").stdout
    assert listed.splitlines() == [f"{scheme}: {scheme}" for scheme in (*SCHEMES, "cleartext")]
    path.chmod(0o640)
    assert passwd(str(path), "scrypt", "--delete").returncode == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert not file.lookup("scrypt").known
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("user", "scheme", "delete", "said", "error"),
    [
        ("a:b", "scrypt", False, "x\n", "expected a user without a colon"),
        (None, "scrypt", False, "x\n", "expected a user"),
        (" #x", "scrypt", False, "x\n", "without # or a space in front"),
        ("x ", "scrypt", False, "x\n", "or a space behind"),
        ("a\u2028b:x", "scrypt", False, "x\n", "SASLprep forbids"),
        ("joe", "scrypt", False, "\n", "an empty name or password"),
        ("joe", "scrypt", False, "\x07\n", "SASLprep forbids"),
        ("joe", "cleartext", False, "$argon2id$x\n", "would be taken for a hash"),
        ("joe", "scrypt", True, "", "has no user joe"),
    ],
)
def test_what_is_refused(
    tmp_path: Path,
    user: str | None,
    scheme: str,
    delete: bool,
    said: str,
    error: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(said))
    path = tmp_path / "passwords"
    assert passwd_command(path, user, scheme=scheme, from_stdin=True, delete=delete, list_users=False) == 1
    assert error in capsys.readouterr().err
    assert not path.exists()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    done = passwd(str(tmp_path / "no" / "passwords"), "joe", "--stdin", said="x\n")
    assert done.returncode == 1
    assert "No such file" in done.stderr


def test_names_are_prepared_as_those_are_who_come(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    odd = "odd:one\x85two\u2028three"  # one line for the server, which reads the file, so for us
    path.write_text(f"# who\n{odd}\nJose\u0301:x\n")
    assert PasswordFile(path).lookup("Jos\u00e9").verify("x")
    assert passwd(str(path), "Jose\u0301", "--stdin", "--scheme", "cleartext", said="y\n").returncode == 0
    assert path.read_text("utf-8") == f"# who\n{odd}\nJos\u00e9:y\n"
    assert PasswordFile(path).lookup("Jos\u00e9").verify("y")
    assert passwd(str(path), "--list").stdout == "odd: cleartext\nJos\u00e9: cleartext\n"
    assert passwd(str(path), "Jos\u00e9", "--delete").returncode == 0
    assert path.read_text("utf-8") == f"# who\n{odd}\n"


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
