"""`python -m examples.fleet`: mail passes while parts of it end, by the rule that nothing accepted is lost."""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread, Timer

import pytest
from example_process import ENVIRONMENT
from fortress import JUDGE
from mail_client import need

from examples.fleet.__main__ import main

MESSAGES = 20_000 if JUDGE else 96
LONGEST = 3600.0 if JUDGE else 120.0
TOKEN = re.compile(rb"^X-Token: (\d+)$", re.MULTILINE)


class FleetProcess:
    """A fleet that runs: its lines so far, and the process id of each part."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []
        self.pids: dict[str, int] = {}
        self.all_pids: list[int] = []

    def read_until(self, beginning: str) -> str:
        """Read lines up to one that begins so."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if found := re.match(r"(\w+): pid (\d+), ", line):
                self.pids[found[1]] = int(found[2])
                self.all_pids.append(int(found[2]))
            if line.startswith(beginning):
                return self.lines[-1]
        raise AssertionError("\n".join(self.lines))

    def read_all(self) -> int:
        """Read to the end, and return the exit status."""
        with pytest.raises(AssertionError):
            self.read_until("\0")
        return self.process.wait(LONGEST)

    def kill(self, name: str, number: int) -> None:
        """Send a signal to a part."""
        os.kill(self.pids[name], number)

    @property
    def text(self) -> str:
        """All lines so far."""
        return "\n".join(self.lines)


@contextmanager
def fleet(folder: Path, *arguments: str) -> Iterator[FleetProcess]:
    if shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("haproxy is not installed")
    command = [sys.executable, "-m", "examples.fleet", "--port", "0", "--folder", str(folder), *arguments]
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        guard = Timer(LONGEST, process.terminate)
        guard.start()
        try:
            yield FleetProcess(process)
        finally:
            guard.cancel()
            process.terminate()


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def tokens(folder: Path) -> list[int]:
    """Return the numbers of the messages in the Maildir."""
    found = [TOKEN.search(path.read_bytes()) for path in (folder / "Maildir/new").iterdir()]
    return [int(each[1]) for each in found if each is not None]


def faults(running: FleetProcess) -> list[tuple[float, Callable[[], None]]]:
    """Return what is done when a share of the messages is accepted."""
    restart_node = (0.25, lambda: running.kill("mx2", signal.SIGTERM))
    if not JUDGE:  # what a consumer that is killed had in hand is delivered again only after 20 s
        return [(0.08, lambda: running.kill("c1", signal.SIGTERM)), restart_node]
    return [
        (0.1, lambda: running.kill("c1", signal.SIGKILL)),
        restart_node,
        (0.4, lambda: running.process.send_signal(signal.SIGHUP)),
        (0.5, lambda: running.kill("policy", signal.SIGKILL)),
        (0.55, lambda: running.kill("n1", signal.SIGKILL)),
        (0.7, lambda: running.kill("mx3", signal.SIGKILL)),
        (0.85, lambda: running.kill("c2", signal.SIGKILL)),
    ]


def break_things(running: FleetProcess) -> None:
    """Kill, restart and renew as :func:`faults` says, each at its share of the messages."""
    step = max(1, MESSAGES // 20)
    for share, act in faults(running):
        running.read_until(f"{int(share * MESSAGES) // step * step} of {MESSAGES} ")
        with suppress(ProcessLookupError):  # it has just ended, and is started again
            act()


def test_nothing_accepted_is_lost_while_parts_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A node and a consumer are restarted; at full size a certificate is renewed, and consumers and more are killed."""
    folder = tmp_path / "fleet"
    with fleet(folder, "--messages", str(MESSAGES)) as running:
        running.read_until("ready: ")
        expected = {"n1", "n2", "n3", "mx1", "mx2", "mx3", "c1", "c2", "policy", "haproxy"}
        assert running.pids.keys() == expected
        break_things(running)
        status = running.read_all()
    audit = "\n".join(line for line in running.lines if line.startswith("audit: "))
    with capsys.disabled():
        print(f"\n{audit}")
    assert status == 0, running.text
    assert f"audit: {MESSAGES} of {MESSAGES} messages answered 250" in audit
    assert " ids in the stream, 0 of them twice" in audit
    assert f"audit: {2 * MESSAGES} of {2 * MESSAGES} in the Maildir, one for each recipient, 0 lost, 0 without" in audit
    assert ", 0 unexplained" in audit
    assert f"c1: ended with status {-9 if JUDGE else 0}, is started again" in running.lines
    assert "mx2: ended with status 0, is started again" in running.lines
    if JUDGE:
        assert "audit: 2 certificates seen" in audit
    # The Maildir itself says the same.
    found = tokens(folder)
    assert set(found) == set(range(MESSAGES))
    assert f"audit: {len(found) - 2 * MESSAGES} doubles" in audit
    assert [pid for pid in running.all_pids if alive(pid)] == []


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder that the user mail can enter, too."""
    need("dovecot")
    if os.geteuid() != 0:
        pytest.skip("dovecot must be started by root")
    folder = Path(tempfile.mkdtemp(prefix="triosmtp-fleet-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def killing(running: FleetProcess, seed: int) -> Iterator[list[str]]:
    """Kill consumers at random moments; yield the names of those that were killed."""
    choice, done = random.Random(seed), Event()
    killed: list[str] = []

    def kill() -> None:
        while not done.wait(choice.uniform(1, 6)):
            name = choice.choice(("c1", "c2"))
            with suppress(ProcessLookupError):
                running.kill(name, signal.SIGKILL)
                killed.append(name)

    killer = Thread(target=kill)
    killer.start()
    try:
        yield killed
    finally:
        done.set()
        killer.join()


@pytest.mark.skipif(not JUDGE, reason="takes minutes: TRIOSMTP_JUDGE=1")
def test_every_double_at_dovecot_is_explained(open_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It doubles what it receives twice.  Consumers are killed at random moments, and the other parts end as above."""
    seed = random.randrange(1_000_000)
    with capsys.disabled():
        print(f"\nseed {seed}")
    with fleet(open_folder / "fleet", "--dovecot", "--messages", str(MESSAGES)) as running:
        running.read_until("ready: ")
        with killing(running, seed) as killed:
            break_things(running)
            running.read_until(f"{MESSAGES} of {MESSAGES} ")
        status = running.read_all()
    audit = "\n".join(line for line in running.lines if line.startswith("audit: "))
    with capsys.disabled():
        print(f"consumers killed {len(killed)} times\n{audit}")
    assert status == 0, running.text
    assert f"audit: {2 * MESSAGES} of {2 * MESSAGES} in the Maildir, one for each recipient, 0 lost, 0 without" in audit
    assert ", 0 unexplained" in audit
    assert len(killed) > 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_everything(tmp_path: Path, number: int) -> None:
    with fleet(tmp_path / "fleet") as running:
        running.read_until("n1: pid")
        running.process.send_signal(number)
        assert running.read_all() == 0, running.text
    assert "Traceback" not in running.text
    assert running.all_pids
    assert [pid for pid in running.all_pids if alive(pid)] == []


def test_a_part_that_cannot_start_ends_the_fleet(tmp_path: Path) -> None:
    """The error names it, and has its output."""
    folder = tmp_path / 'a"b'  # which ends a string in the configuration of NATS
    with fleet(folder) as running:
        assert running.read_all() == 69, running.text
    assert re.search(r"^fleet: n\d ended with status 1\n.*nats-server: ", running.text, re.MULTILINE)
    assert "Traceback" not in running.text
    assert [pid for pid in running.all_pids if alive(pid)] == []


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that runs a fleet which cannot start, in this process, and returns its error."""

    def run(folder: Path, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["fleet", "--port", "0", "--folder", str(folder), *arguments])
        assert main() == 69
        return capsys.readouterr().err

    return run


def test_a_folder_that_dovecot_cannot_enter_ends_the_fleet(tmp_path: Path, run_here: Callable[..., str]) -> None:
    """It is named at once: Dovecot would only defer all mail."""
    need("dovecot")
    if os.geteuid() != 0:
        pytest.skip("dovecot must be started by root")
    tmp_path.chmod(0o700)
    error = run_here(tmp_path / "fleet", "--dovecot")
    assert error.startswith("fleet: the user mail, who delivers for Dovecot, cannot enter ")
    assert error.count("\n") == 1


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path, run_here: Callable[..., str]) -> None:
    error = run_here(tmp_path / "missing" / "fleet")
    assert error.startswith("fleet: ")
    assert error.endswith(f"No such file or directory: '{tmp_path}/missing/fleet'\n")


def test_a_port_that_is_in_use_is_named(tmp_path: Path, run_here: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        error = run_here(tmp_path / "fleet", "--port", str(port))
    assert error.startswith(f"fleet: port {port}: ")
    assert error.endswith(": choose another --port\n")
