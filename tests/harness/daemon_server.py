"""`triosmtp serve` in a process of its own, with a configuration that tests rewrite, and a console."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import define
from serve_process import COMMAND, REPOSITORY, ServeProcess, start_server

from triosmtp.testing import Authority


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
        self.process: subprocess.Popen[str] | None = None
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
        server = start_server(
            "-c", str(self.conf), *arguments, log=self.folder / "log", environment=self.environment, cwd=self.folder
        )
        self.process = server.process
        self._read_addresses(server)

    def _read_addresses(self, server: ServeProcess) -> None:
        server.wait_until_ready()
        for name, address in server.addresses.items():
            if name.startswith("Listen "):
                self.addresses[name.removeprefix("Listen ").strip('"')] = address
        self.control = server.addresses["Control socket"]

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
