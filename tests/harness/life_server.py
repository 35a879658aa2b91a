"""`triosmtp serve` as a process that something starts and watches: root, systemd."""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any, Self

from triosmtp.testing import Authority

REPOSITORY = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "triosmtp")
TIMEOUT = 60.0
_COVERAGE = "COVERAGE_PROCESS_CONFIG"
"""How coverage tells processes that are to be measured what to do: JSON in base64."""


def _decoded(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.b64decode(text))
    return found


def _encoded(value: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


class Place:
    """A folder that everybody may enter, with a certificate, and with a folder inside for the user who serves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.own = folder / "own"
        self.own.mkdir()
        Authority.create().issue("localhost", dns=["localhost"]).write(folder, "server")

    def write(self, listens: str, options: str = "") -> Path:
        """Write the configuration."""
        conf = self.folder / "triosmtp.conf"
        conf.write_text(
            f'{options}\nRelay_Domains = ( "example.com" )\nDeliver_To = "maildir:{self.own}/Maildir"\n'
            f'Spool_Directory = "{self.own}/spool"\nControl_Listener {{ Listen "{self.own}/control" {{ }} }}\n'
            f"ESMTP_Listener {{\n"
            f'TLS_Certificate = "{self.folder}/server.pem" TLS_Key = "{self.folder}/server.key"\n'
            f'SMTP_Extensions = ( "STARTTLS" )\n{listens}\n}}\n'
        )
        return conf

    @property
    def log(self) -> str:
        """Its output on stderr."""
        return (self.folder / "log").read_text()

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment that it runs in."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "COVERAGE_FILE"))}
        path = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
        if _COVERAGE in kept:  # who gives up root's rights can write what was covered in a folder of his alone
            kept[_COVERAGE] = _encoded({**_decoded(kept[_COVERAGE]), "data_file": str(self.own / ".coverage")})
        return {**kept, "PYTHONPATH": path, "HOME": str(self.folder), **(more or {})}

    @contextmanager
    def serving(
        self,
        environment: Mapping[str, str] | None = None,
        preexec: Callable[[], None] | None = None,
        keep: tuple[int, ...] = (),
        *,
        own_pid: bool = False,
        command: tuple[str, ...] = (),
    ) -> Iterator["Process"]:
        """Run it, and kill the rest of it at the end.  `own_pid`: LISTEN_PID is set to its number."""
        command = command or (*COMMAND, "serve", "-c", str(self.folder / "triosmtp.conf"))
        if own_pid:  # which only the process itself knows: a shell tells it, and is replaced
            command = ("sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *command)
        with (
            (self.folder / "log").open("wb") as stderr,
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=self.environment(environment),
                preexec_fn=preexec,  # noqa: PLW1509 - no thread runs while it is called
                pass_fds=keep, cwd="/",
            ) as process,
        ):  # fmt: skip
            guard = Timer(TIMEOUT, process.kill)
            guard.start()
            try:
                yield Process(process, self)
            finally:
                guard.cancel()
                process.kill()

    def refused(self, environment: Mapping[str, str] | None = None) -> str:
        """Run it when it must not serve; return its output."""
        command = [*COMMAND, "serve", "-c", str(self.folder / "triosmtp.conf")]
        done = subprocess.run(
            command, capture_output=True, check=False, text=True, timeout=TIMEOUT, env=self.environment(environment)
        )
        assert (done.returncode, done.stdout) == (78, ""), done
        return done.stderr

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command of triosmtp, as root."""
        return subprocess.run(
            [*COMMAND, *arguments], capture_output=True, check=False, text=True, timeout=TIMEOUT,
            env=self.environment(),
        )  # fmt: skip


@contextmanager
def public_place() -> Iterator[Place]:
    """Return a place that another user than root may enter; pytest's own folders are closed to him."""
    with tempfile.TemporaryDirectory(prefix="triosmtp-life-") as folder:
        Path(folder).chmod(0o755)
        place = Place(Path(folder))
        yield place
        if _COVERAGE in os.environ:
            home = Path(_decoded(os.environ[_COVERAGE])["data_file"]).parent
            for measured in place.own.glob(".coverage.*"):
                shutil.copy(measured, home)


class Process:
    """The process, from outside."""

    def __init__(self, process: subprocess.Popen[str], place: Place) -> None:
        self.process = process
        self.place = place

    def serves(self) -> list[str]:
        """Wait until it serves; return what it announces."""
        lines: list[str] = []
        assert self.process.stdout is not None
        while not lines or not lines[-1].startswith("Control socket: "):
            line = self.process.stdout.readline()
            assert line, f"it ended: {lines} {self.place.log}"
            lines.append(line.rstrip("\n"))
        return lines

    def port(self) -> int:
        """Wait until it serves; return the port of the first Listen."""
        return int(self.serves()[0].rpartition(" ")[2])

    @property
    def status(self) -> dict[str, str]:
        """Its state in the kernel."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self) -> int:
        """Send SIGTERM, and return the exit status."""
        self.signal(signal.SIGTERM)
        return self.process.wait(TIMEOUT)


class LineClient:
    """A client that says lines and reads lines."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self._file = self.socket.makefile("rwb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def read(self) -> str:
        """Read one line; empty if the server has closed."""
        return self._file.readline().decode().rstrip("\r\n")

    def say(self, *lines: str) -> None:
        """Send lines."""
        self._file.write("".join(f"{line}\r\n" for line in lines).encode())
        self._file.flush()

    def ask(self, line: str) -> str:
        """Send a line; read a reply of one line."""
        self.say(line)
        return self.read()

    def deliver(self) -> str:
        """Send a message; return the last reply."""
        for line in ("HELO client.example", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>", "DATA"):
            assert self.ask(line)[:1] in {"2", "3"}
        return self.ask("Subject: x\r\n\r\nx\r\n.")


def free_port() -> int:
    """Return a port that is free at the moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
