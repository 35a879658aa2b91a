"""`triosmtp check`: errors, warnings and its exit status."""

import subprocess
import sys
from pathlib import Path

import pytest
from command_line import TEXT, enter_with_configuration, run


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return enter_with_configuration(tmp_path, monkeypatch)


def test_check_says_valid(capsys: pytest.CaptureFixture[str], conf: str) -> None:
    told = run(capsys, "check", "-c", conf)
    assert (told.code, told.out, told.err) == (0, "Configuration valid\n", "")


def test_check_tells_warnings_and_says_valid(capsys: pytest.CaptureFixture[str], conf: str) -> None:
    Path(conf).write_text("Retry_Interval = 3\n" + TEXT)
    told = run(capsys, "check", "-c", conf)
    assert (told.code, told.out) == (0, "Configuration valid\n")
    assert told.err.startswith("e.conf:1:1: warning: Retry_Interval is an option of Momentum's")


@pytest.mark.parametrize("command", ["check", "config show", "config eval", "serve"])
def test_errors_end_with_78(capsys: pytest.CaptureFixture[str], conf: str, command: str) -> None:
    Path(conf).write_text("Idle_Tme = 3\nRetry_Interval = 3\n" + TEXT)
    told = run(capsys, *command.split(), "-c", conf)
    assert (told.code, told.out) == (78, "")
    assert told.err.splitlines()[::3] == [
        "e.conf:1:1: error: unknown option Idle_Tme; did you mean Idle_Time?",
        "e.conf:2:1: warning: Retry_Interval is an option of Momentum's that triosmtp does not implement: it has no effect",  # noqa: E501
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('Policy = ( "filter:x" )', 'Policy: there is no Filter "x"'),
        ('Policy = ( "filter:x" ) Filter "x" { Connect_To = "milter:inet:1@h" }', "Connect_To: expected milter:"),
        ('Deliver_To = "x"', 'Deliver_To: there is no Delivery "x"'),
        ('Deliver_To = "x" Delivery "x" { }', 'Delivery "x" needs a Deliver_To'),
        ('Domain "a.example" { Deliver_To = "x" }', 'Deliver_To: there is no Delivery "x"'),
        ('Consumer "x" { }', 'Consumer "x" needs Read_From and Deliver_To'),
        ('Consumer "x" { Read_From = "nope:x" Report_To = "y" }', "Consumer "),
    ],
)
def test_a_name_without_its_scope_is_an_error_and_hides_no_other(
    capsys: pytest.CaptureFixture[str], conf: str, text: str, error: str
) -> None:
    Path(conf).write_text(TEXT.replace("Idle_Time = 60", 'TLS_Certificate = "nope.pem"') + f"{text}\n")
    told = run(capsys, "check", "-c", conf)
    assert told.code == 78
    assert f"error: {error}" in told.err
    assert '"nope.pem"' in told.err


def test_check_looks_at_certificates(capsys: pytest.CaptureFixture[str], conf: str) -> None:
    Path(conf).write_text(TEXT.replace("Idle_Time = 60", 'TLS_Certificate = "nope.pem"'))
    told = run(capsys, "check", "-c", conf)
    assert (told.code, told.out) == (78, "")
    assert told.err.startswith("e.conf:8:23: error: TLS_Certificate")
    assert "nope.pem" in told.err


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        ('Log mainlog { Path = "./none/main.log" }', 'Log "mainlog": {here}/none/main.log: No such file or directory'),
        ('Log mainlog { Path = "." }', 'Log "mainlog": {here}: Is a directory'),
        ('Log mainlog { Path = "./e.conf/log" }', 'Log "mainlog": {here}/e.conf/log: Not a directory'),
        ('Control_Listener { Listen "./none/c" { } }', 'Listen "./none/c": No such file or directory'),
        ('ESMTP_Listener { Listen "./none/s" { } }', 'Listen "./none/s": No such file or directory'),
        ('ESMTP_Listener { Listen "./e.conf" { } }', 'Listen "./e.conf": File exists'),
    ],
)
def test_check_looks_where_files_and_sockets_are_to_be(
    capsys: pytest.CaptureFixture[str], conf: str, scope: str, words: str
) -> None:
    Path(conf).write_text(TEXT.replace(":25", "127.0.0.1:0") + scope)
    before = list(Path().iterdir())
    words = f"error: {words.format(here=Path.cwd())}"
    told = run(capsys, "check", "-c", conf)
    assert (told.code, told.out) == (78, "")
    assert words in told.err
    assert list(Path().iterdir()) == before
    serve = [sys.executable, "-m", "triosmtp", "serve", "-c", conf]
    done = subprocess.run(serve, capture_output=True, check=False, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (78, "")
    assert words in done.stderr


def test_check_knows_that_systemd_makes_folders(capsys: pytest.CaptureFixture[str], conf: str) -> None:
    Path(conf).write_text(f'{TEXT}\nControl_Listener {{ Listen "/run/nothing-of-that-name/c" {{ }} }}\n')
    told = run(capsys, "check", "-c", conf)
    assert (told.code, told.out) == (0, "Configuration valid\n")
    assert "warning: Listen" in told.err
    assert "there is no folder /run/nothing-of-that-name" in told.err


def test_check_looks_at_certificates_where_a_policy_is_missing(capsys: pytest.CaptureFixture[str], conf: str) -> None:
    with Path(conf).open("a") as file:
        file.write('Policy = ( "python:nowhere:Nobody" )\nTLS_Certificate = "/no/such/cert.pem"\n')
    told = run(capsys, "check", "-c", conf)
    assert told.code == 78
    assert "No module named 'nowhere'" in told.err
    assert 'TLS_Certificate: "/no/such/cert.pem": does not exist' in told.err


@pytest.mark.parametrize("command", [("check", "-c", "e.conf"), ("serve", "-c", "e.conf"), ("serve",)])
def test_nowhere_to_keep_a_state(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, conf: str, command: tuple[str, ...]
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    Path(conf).write_text(TEXT.replace('Deliver_To = "discard:"', ""))
    monkeypatch.setattr(Path, "home", no_home)
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    told = run(capsys, *command)
    assert (told.code, told.out) == (78, "")
    assert told.err.count("\n") == 1
    assert told.err.startswith("error: there is no state folder: set STATE_DIRECTORY")
