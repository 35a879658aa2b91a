"""`triosmtp serve` without a configuration: its files, and the commands that it prints."""

import os
import re
import shutil
import signal
import smtplib
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from attrs import frozen
from embedded_ports import ports_of_one_run, skip_or_fail
from serve_process import REPOSITORY, TIMEOUT, ServeProcess, environment_of, run_server

from triosmtp.daemon import embedded_default
from triosmtp.x509.authority import Authority


@frozen
class Embedded:
    """The running default: its folder, and the commands that it printed, by what they show."""

    folder: Path
    daemon: ServeProcess
    commands: dict[str, str]

    def mails(self) -> list[str]:
        """Return the messages in its Maildir, the newest last."""
        files = sorted((self.folder / "Maildir" / "new").glob("*"), key=lambda file: file.stat().st_mtime_ns)
        return [file.read_text() for file in files]


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    with ports_of_one_run():
        yield from _default(tmp_path_factory)


def _default(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    folder = tmp_path_factory.mktemp("default")
    state = folder / "a state"  # a blank in its name: the commands must be quoted
    with run_server(log=folder / "log", environment=environment_of(STATE_DIRECTORY=str(state))) as daemon:
        greeting = daemon.read_until('Listen "127.0.0.1:2465"')
        assert 'Listen "127.0.0.1:2525": 127.0.0.1 port 2525' in greeting
        yield Embedded(state / "embedded", daemon, printed_commands(greeting))
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
    assert "Traceback" not in daemon.log


def printed_commands(greeting: list[str]) -> dict[str, str]:
    text = re.sub(r"\\\n +", "", "\n".join(greeting).partition("Try it")[2])
    return dict(re.findall(r"^  ([\w ]+): {2,}(.+)$", text, re.MULTILINE))


def shell(command: str, folder: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command in a folder where `triosmtp` can be called by its name."""
    for program in re.findall(r"(?:^|\| )(\w+)", command):
        if shutil.which(program) is None:
            skip_or_fail(f"{program} is not installed")
    path = folder / "bin"
    path.mkdir(exist_ok=True)
    script = path / "triosmtp"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{REPOSITORY}" exec "{sys.executable}" -m triosmtp "$@"\n')
    script.chmod(0o755)
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        check=False, cwd=folder, input=given, capture_output=True, text=True, timeout=TIMEOUT,
        env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}"},
    )  # fmt: skip


def test_it_prints_five_commands(default: Embedded) -> None:
    assert list(default.commands) == [
        "STARTTLS", "TLS from the start", "send a message", "with a certificate", "your own",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["STARTTLS", "TLS from the start"])
def test_a_session_by_hand(name: str, default: Embedded, tmp_path: Path) -> None:
    # As people type it: capital letters, of which openssl would take some for commands of its own, and Unix line ends.
    lines = ["EHLO me", "MAIL FROM:<me@example.org>", "RCPT TO:<you@example.com>", "RSET", "QUIT"]
    done = shell(default.commands[name], tmp_path, given="".join(f"{line}\n" for line in lines))
    assert done.returncode == 0, done.stderr
    assert "verify error" not in done.stderr
    replies = re.findall(r"^(\d{3}) (\S+)", done.stdout, re.MULTILINE)
    greeting = [] if name == "STARTTLS" else [("220", "localhost")]  # openssl reads that one by itself
    answers = [("250", "2.1.0"), ("250", "2.1.5"), ("250", "2.0.0"), ("221", "2.0.0")]
    assert replies == [*greeting, ("250", "ENHANCEDSTATUSCODES"), *answers]


def test_send_a_message(default: Embedded, tmp_path: Path) -> None:
    before = len(default.mails())
    done = shell(default.commands["send a message"], tmp_path)
    assert done.returncode == 0, done.stderr
    mails = default.mails()
    assert len(mails) == before + 1
    assert mails[-1].endswith("Subject: hello\n\nHello.\n")
    assert "Delivered-To: you@example.com\n" in mails[-1]


@pytest.mark.parametrize(("who", "logged"), [("client", "verified=yes"), ("untrusted", "verified=no")])
def test_with_a_certificate(who: str, logged: str, default: Embedded, tmp_path: Path) -> None:
    before = len(default.mails())
    command = default.commands["with a certificate"]
    assert command.count("client.") == 2
    done = shell(command.replace("client.", f"{who}."), tmp_path)
    assert done.returncode == 0, done.stdout
    assert len(default.mails()) == before + 1
    accepted = [line for line in default.daemon.log.splitlines() if " accepted " in line]
    assert logged in accepted[-1]


def test_your_own(default: Embedded, tmp_path: Path) -> None:
    done = shell(default.commands["your own"], tmp_path)
    assert (done.returncode, done.stdout) == (0, "Configuration valid\n"), done.stderr
    assert (tmp_path / "my.conf").read_text() == (default.folder / "triosmtp.conf").read_text()


def test_what_it_makes_is_ours_alone(default: Embedded) -> None:
    with smtplib.SMTP("127.0.0.1", 2525) as client:  # the first message makes the Maildir
        client.sendmail("me@example.org", ["you@example.com"], b"Subject: x\r\n\r\nx\r\n")
    for folder in (default.folder.parent, default.folder, default.folder / "Maildir"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    keys = sorted(default.folder.glob("*.key"))
    assert [key.name for key in keys] == ["client.key", "server.key", "untrusted.key"]
    for key in keys:
        assert stat.S_IMODE(key.stat().st_mode) == 0o600, key


def test_a_second_one_finds_the_ports_busy(default: Embedded, tmp_path: Path) -> None:
    with run_server(
        log=tmp_path / "log", environment=environment_of(STATE_DIRECTORY=str(tmp_path / "state"))
    ) as second:
        assert second.wait() == 75
    errors = re.findall(r'error: Listen "127\.0\.0\.1:(\d+)": Address already in use', second.log)
    assert errors == ["2525", "2465"]


# What lies there already


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    return embedded_default.write_embedded_default().parent


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_second_start_changes_nothing(state: Path) -> None:
    (state / "triosmtp.conf").write_text("# mine\n")
    before = contents(state)
    embedded_default.write_embedded_default()
    assert contents(state) == before


def test_certificates_that_end_soon_are_made_anew(state: Path) -> None:
    soon = datetime.now(UTC) + timedelta(hours=12)
    Authority.create().issue("localhost", not_after=soon).write(state, "server")
    before = contents(state)
    embedded_default.write_embedded_default()
    after = contents(state)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"ca.pem", "server.pem", "server.key", "client.pem", "client.key"}


def test_a_certificate_that_is_missing_is_made_with_all_others(state: Path) -> None:
    (state / "client.key").unlink()
    before = contents(state)
    embedded_default.write_embedded_default()
    after = contents(state)
    assert "client.key" in after
    assert after["ca.pem"] != before["ca.pem"]
