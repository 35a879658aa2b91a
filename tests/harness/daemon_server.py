"""`triosmtp serve` in a process of its own, with a configuration that tests rewrite, and a console."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import IO, Any

from attrs import define
from daemon_process import TIMEOUT

from triosmtp.testing import Authority

REPOSITORY = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "triosmtp")


@define
class Result:
    """The output of a command, and its exit status."""

    status: int
    out: str
    err: str


class DaemonServer:
    """Serves one folder: configuration, certificate, state and log lie in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "triosmtp.conf"
        self.addresses: dict[str, str] = {}
        """The names of Listens as they were at the start, and where they are: `127.0.0.1 port 2525`, or a path."""
        self.control = ""
        self.environment = {
            key: value for key, value in os.environ.items() if key not in {"XDG_RUNTIME_DIR", "RUNTIME_DIRECTORY"}
        } | {"STATE_DIRECTORY": str(folder / "state"), "PYTHONPATH": str(REPOSITORY)}
        self.process: subprocess.Popen[bytes] | None = None
        authority = Authority.create()
        authority.issue("localhost", dns=["localhost"]).write(folder, "server")
        self.ca = authority.certificate_pem.decode()

    def write(self, listens: str, options: str = "") -> None:
        """Write the configuration."""
        certificate = f'TLS_Certificate = "{self.folder}/server.pem" TLS_Key = "{self.folder}/server.key"'
        extensions = 'SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" )'
        self.conf.write_text(
            f'Relay_Domains = ( "example.com" )\nDeliver_To = "maildir:{self.folder}/Maildir"\n{options}\n'
            f"ESMTP_Listener {{\n{certificate} {extensions}\n{listens}\n}}\n"
        )

    def start(self, *arguments: str) -> None:
        """Start it, and return when it serves and can be asked."""
        command = [*COMMAND, "serve", "-c", str(self.conf), *arguments]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdout=subprocess.PIPE, stderr=log, env=self.environment
            )
        assert self.process.stdout is not None
        guard = Timer(TIMEOUT, self.process.kill)  # it serves, but has no control socket, or never gets so far
        guard.start()
        try:
            self._read_addresses(self.process.stdout)
        finally:
            guard.cancel()

    def _read_addresses(self, stdout: IO[bytes]) -> None:
        while not self.control:
            line = stdout.readline().decode()
            assert line, f"it has no control socket: {self.log}"
            if match := re.match(r'Listen "(.*)": (.*)$', line):
                self.addresses[match[1]] = match[2]
            elif match := re.match(r"Control socket: (.*)$", line):
                self.control = match[1]

    def port(self, name: str) -> int:
        """Return the port of a Listen."""
        return int(self.addresses[name].rpartition(" ")[2])

    def run(self, *arguments: str, stdin: str | None = None) -> Result:
        """Run another command."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            check=False,
            input=stdin,
            encoding="utf-8",
            timeout=60,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def console(self, *words: str) -> Result:
        """Let the console run one command."""
        return self.run("console", "--control", self.control, *words)

    def ask(self, words: str) -> Any:
        """Let the console run one command that must succeed, and return its data."""
        result = self.console("--json", words)
        assert result.status == 0, result
        return json.loads(result.out)["data"]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end, and return its exit status."""
        assert self.process is not None
        process, self.process = self.process, None
        process.communicate(timeout=60)
        return process.returncode

    @property
    def log(self) -> str:
        """Its output on stderr."""
        return (self.folder / "log").read_text()


@contextmanager
def daemon(folder: Path, listens: str, options: str = "", arguments: tuple[str, ...] = ()) -> Iterator[DaemonServer]:
    """Serve until the block is left; the log must hold no traceback then."""
    server = DaemonServer(folder)
    server.write(listens, options)
    server.start(*arguments)
    try:
        yield server
    finally:
        if server.process is not None:
            server.signal(signal.SIGTERM)
            status = server.wait()
    assert "Traceback" not in server.log, server.log
    if "status" in locals():
        assert status == 0, server.log


def free_port() -> int:
    """Return a port that is free at the moment."""
    import socket  # noqa: PLC0415

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
