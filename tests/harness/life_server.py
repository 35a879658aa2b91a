"""`triosmtp serve` as a process that something starts and watches: root, systemd."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serve_process import COMMAND, REPOSITORY, TIMEOUT, ServeProcess, run_server

from triosmtp.testing import Authority

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
        options = {"preexec_fn": preexec, "pass_fds": keep, "cwd": "/"}  # no thread runs while preexec is called
        run = run_server(command=command, log=self.folder / "log", environment=self.environment(environment), **options)
        with run as server:
            yield Process(server.process, self)

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


class Process(ServeProcess):
    """The process, with its place and its state in the kernel."""

    def __init__(self, process: "subprocess.Popen[str]", place: Place) -> None:
        super().__init__(process, place.folder / "log")
        self.place = place

    @property
    def status(self) -> dict[str, str]:
        """Its state in the kernel."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
