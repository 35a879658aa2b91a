"""`triosmtp serve` as a process, and a plain client for it."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from time import monotonic
from typing import Self

from watchfiles import watch

REPOSITORY = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "triosmtp")
TIMEOUT = 30.0


def wait_for_log(log: Path, text: str, times: int = 1) -> None:
    """Return when the file `log` holds `text` so often: read again at each change of its folder."""
    deadline = monotonic() + TIMEOUT
    if log.read_text().count(text) >= times:
        return
    for _ in watch(log.parent, recursive=False, debounce=20, step=10, rust_timeout=1000, yield_on_timeout=True):
        if log.read_text().count(text) >= times:
            return
        assert monotonic() < deadline, log.read_text()


class Daemon:
    """A `triosmtp serve` that runs."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def log(self) -> str:
        """Its output on stderr so far."""
        return self._log.read_text()

    def wait_for_log(self, text: str) -> None:
        """Wait until it has written `text` to stderr."""
        wait_for_log(self._log, text)

    def read_until(self, beginning: str) -> list[str]:
        """Read its stdout up to a line that begins so; return all lines read."""
        assert self._process.stdout is not None
        lines: list[str] = []
        while not lines or not lines[-1].startswith(beginning):
            line = self._process.stdout.readline()
            assert line, f"it ended: {lines} {self.log}"
            lines.append(line.rstrip("\n"))
        return lines

    def port(self) -> int:
        """Wait until its Listen is served; return the port."""
        return int(self.read_until("Listen ")[-1].rpartition(" ")[2])

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def status(self) -> int:
        """Wait for its end; return the exit status."""
        return self._process.wait(TIMEOUT)


@contextmanager
def running(*arguments: str, log: Path, environment: dict[str, str] | None = None) -> Iterator[Daemon]:
    """Run `triosmtp serve ARGUMENTS`; what is left of it at the end of the block is killed."""
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            [*COMMAND, "serve", *arguments], stdout=subprocess.PIPE, stderr=stderr, text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **(environment or {})},
        ) as process,
    ):  # fmt: skip
        guard = Timer(TIMEOUT, process.kill)
        guard.start()
        try:
            yield Daemon(process, log)
        finally:
            guard.cancel()
            process.kill()


class LineClient:
    """A client that says lines and reads lines."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self._file = self._socket.makefile("rwb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

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
