"""One client that does too much of one thing, and 2000 of them: others are served in time, and memory stays flat.

Times count here, so all of it is for TRIOSMTP_JUDGE=1, on a machine that does nothing else.  The causes are tested
by counts elsewhere.
"""

import resource
import signal
import smtplib
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import define, field, frozen
from flood import ALL
from fortress import JUDGE

from triosmtp.testing import Authority

pytestmark = pytest.mark.skipif(not JUDGE, reason="times count: under TRIOSMTP_JUDGE=1")

MANY = 2000
SECONDS = 10.0
MEDIAN, WORST = 0.1, 0.5
"""Seconds that a NOOP of somebody else takes at most: the half of them, and 99 of 100."""
CONF = """
Relay_Domains = ( "example.com" )
Deliver_To = "maildir:{folder}/Maildir"
Spool_Directory = "{folder}/spool"
TLS_Certificate = "{folder}/server.pem"
TLS_Key = "{folder}/server.key"
TLS_Client_CA = "{folder}/ca.pem"
Allow_Plaintext_Auth = true
AuthPlainParameters = [ uri = "file://{folder}/passwords" ]
Max_Junk_Commands = 0
Workers = {workers}
ESMTP_Listener {{
  Listen "127.0.0.1:0" {{ SMTP_Extensions = ( ENHANCEDSTATUSCODES STARTTLS CHUNKING "AUTH PLAIN" ) }}
}}
"""


@frozen
class Target:
    """A `triosmtp serve` that runs."""

    folder: Path
    port: int
    pid: int

    def memory(self) -> int:
        """Return octets that are resident now, of it and its workers."""
        return sum(_resident(pid) for pid in (self.pid, *_children(self.pid)))

    def delivered(self) -> int:
        new = self.folder / "Maildir" / "new"
        return len([path for path in new.iterdir() if b"honest" in path.read_bytes()[-200:]])


def _resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(each) for task in tasks for each in (task / "children").read_text().split()]


@contextmanager
def target(folder: Path, workers: int) -> Iterator[Target]:
    """Serve until the block is left; then it ends in good order, and there is no traceback."""
    authority = Authority.create()
    authority.issue("localhost", dns=["localhost"]).write(folder, "server")
    (folder / "ca.pem").write_bytes(authority.certificate_pem)
    command = [sys.executable, "-m", "triosmtp"]
    passwords = folder / "passwords"
    passwords.touch(0o600)
    subprocess.run(
        [*command, "passwd", "--stdin", str(passwords), "joe"], input="right\n", text=True, check=True, cwd=folder
    )
    (folder / "my.conf").write_text(CONF.format(folder=folder, workers=workers))
    command += ["serve", "-c", str(folder / "my.conf"), "--control", str(folder / "control")]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        line = ""
        while not line.startswith("Listen"):
            line = process.stdout.readline()
            assert line, (folder / "log").read_text()
        try:
            yield Target(folder, int(line.rpartition(" ")[2]), process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 0
    assert "Traceback" not in (folder / "log").read_text()


@define
class Others:
    """Somebody else's NOOPs, and honest mail, while it lasts."""

    target: Target
    noops: list[float] = field(factory=list)
    mails: list[float] = field(factory=list)
    memory: list[int] = field(factory=list)
    wrong: list[str] = field(factory=list)
    _over: threading.Event = field(factory=threading.Event)

    @contextmanager
    def beside(self) -> Iterator[None]:
        threads = [threading.Thread(target=each) for each in (self._say_noop, self._bring_mail, self._weigh)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
        assert self.wrong == []

    def _say_noop(self) -> None:
        try:
            with socket.create_connection(("127.0.0.1", self.target.port), 60) as sock:
                sock.recv(1000)
                while not self._over.is_set():
                    began = time.perf_counter()
                    sock.sendall(b"NOOP\r\n")
                    if not sock.recv(1000).startswith(b"250"):
                        raise OSError("no 250")
                    self.noops.append(time.perf_counter() - began)
                    self._over.wait(0.005)
        except OSError as error:
            self.wrong.append(f"NOOP: {error!r}")

    def _bring_mail(self) -> None:
        try:
            while not self._over.is_set():
                began = time.perf_counter()
                with smtplib.SMTP("127.0.0.1", self.target.port, "honest.example.org", 60) as client:
                    client.sendmail("me@example.org", ["you@example.com"], "Subject: honest\n\nhonest\n")
                self.mails.append(time.perf_counter() - began)
                self._over.wait(0.05)
        except (OSError, smtplib.SMTPException) as error:
            self.wrong.append(f"mail: {error!r}")

    def _weigh(self) -> None:
        while not self._over.is_set():
            self.memory.append(self.target.memory())
            self._over.wait(0.25)

    def told(self) -> str:
        noops = sorted(self.noops)
        return (
            f"{len(noops)} NOOPs, median {statistics.median(noops) * 1e3:.1f} ms, "
            f"99 % {noops[int(len(noops) * 0.99)] * 1e3:.0f} ms, worst {noops[-1] * 1e3:.0f} ms; "
            f"{len(self.mails)} mails, worst {max(self.mails, default=0):.2f} s; "
            f"memory {self.memory[0] >> 20} to {max(self.memory) >> 20} MiB"
        )


def flood(server: Target, kind: str, count: int, seconds: float) -> Others:
    """Let so many attack, and look how others fare; return that."""
    others = Others(server)
    command = [
        sys.executable,
        str(Path(__file__).parents[2] / "harness" / "flood.py"),
        kind,
        str(server.port),
        str(count),
    ]
    with subprocess.Popen([*command, str(seconds), str(server.folder)], stdout=subprocess.PIPE, text=True) as attackers:
        assert attackers.stdout is not None
        assert attackers.stdout.readline() == "begins\n"
        with others.beside():
            attempts = attackers.stdout.readline().strip()
        assert attackers.wait(60) == 0
    print(f"{kind}, {count} at once, {attempts} attempts: {others.told()}")
    return others


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", ALL)
def test_one_in_a_loop(tmp_path: Path, kind: str, workers: int) -> None:
    with target(tmp_path, workers) as server:
        others = flood(server, kind, 1, SECONDS)
        assert server.delivered() == len(others.mails)
    noops = sorted(others.noops)
    assert statistics.median(noops) < MEDIAN
    assert noops[int(len(noops) * 0.99)] < WORST


@pytest.mark.parametrize("kind", ALL)
def test_two_thousand_at_once(tmp_path: Path, kind: str) -> None:
    wanted = 2 * MANY + 500
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"the system allows {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    with target(tmp_path, 1) as server:
        others = flood(server, kind, MANY, 3 * SECONDS)
        assert server.delivered() == len(others.mails)
    assert len(others.mails) >= 3
    # The memory of so many connections, with hashes of passwords.  Repeated attempts do not add to it.
    assert max(others.memory) - others.memory[0] < 48 * 1024 * 1024 + MANY * 150_000
