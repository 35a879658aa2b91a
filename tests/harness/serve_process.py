"""Start ``triosmtp serve`` as a process, wait until it is ready, and stop it.

Every harness that runs a server in a process of its own starts it here.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from time import monotonic
from typing import IO, Any, Self

from watchfiles import watch

REPOSITORY = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "triosmtp")
TIMEOUT = 60.0
"""Seconds for each step of a server: until it is ready, until it writes a line of its log, until it ends."""


class ServeProcess:
    """A `triosmtp serve` that runs."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path | None = None) -> None:
        self.process = process
        self.addresses: dict[str, str] = {}
        """The announced addresses by name: `Listen "127.0.0.1:0"` is `127.0.0.1 port 2525`, `Control socket` a path."""
        self._log = log

    @property
    def log(self) -> str:
        """Its output on stderr so far."""
        return "" if self._log is None else self._log.read_text()

    def wait_for_log(self, text: str) -> None:
        """Wait until it has written `text` to stderr."""
        assert self._log is not None
        wait_for_log(self._log, text)

    def read_until(self, beginning: str) -> list[str]:
        """Read its stdout up to a line that begins so; return all lines read.  It is killed if that takes too long."""
        assert self.process.stdout is not None
        lines: list[str] = []
        guard = Timer(TIMEOUT, self.process.kill)
        guard.start()
        try:
            while not lines or not lines[-1].startswith(beginning):
                line = self.process.stdout.readline()
                assert line, f"the server ended: {lines} {self.log}"
                lines.append(line.rstrip("\n"))
                name, _, address = lines[-1].partition(": ")
                self.addresses[name] = address
        finally:
            guard.cancel()
        return lines

    def wait_until_ready(self) -> list[str]:
        """Wait until it serves: the control socket is announced last.  Return the announcement."""
        return self.read_until("Control socket: ")

    def port(self, name: str = "Listen ") -> int:
        """Wait until the first address is announced whose name begins so; return its port."""
        if not any(each.startswith(name) for each in self.addresses):
            self.read_until(name)
        address = next(address for each, address in self.addresses.items() if each.startswith(name))
        return int(address.rpartition(" ")[2])

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; return the exit status."""
        return self.process.wait(TIMEOUT)

    def stop(self) -> int:
        """Send SIGTERM, and return the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()


def environment_of(**variables: str) -> dict[str, str]:
    """Return the environment of this process with these variables, in which `python -m triosmtp` runs anywhere."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), **variables}


def start_server(
    *arguments: str,
    log: Path | None = None,
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] = (*COMMAND, "serve"),
    **options: Any,
) -> ServeProcess:
    """Start `triosmtp serve ARGUMENTS`; its stderr is added to the file `log`, or is a pipe.

    `options` are further ones of :class:`subprocess.Popen`.
    """
    stderr: IO[bytes] | int = subprocess.PIPE if log is None else log.open("ab")
    try:
        process = subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, stderr=stderr, text=True,
            env=environment_of() if environment is None else environment, **options,
        )  # fmt: skip
    finally:
        if not isinstance(stderr, int):
            stderr.close()
    return ServeProcess(process, log)


@contextmanager
def run_server(*arguments: str, log: Path, **options: Any) -> Iterator[ServeProcess]:
    """Run `triosmtp serve ARGUMENTS` for at most :data:`TIMEOUT`; kill it at the end of the block if it still runs."""
    log.write_bytes(b"")
    server = start_server(*arguments, log=log, **options)
    with server.process:
        guard = Timer(TIMEOUT, server.process.kill)
        guard.start()
        try:
            yield server
        finally:
            guard.cancel()
            server.process.kill()


@contextmanager
def run_cleanly(*arguments: str, log: Path, control: Path, **options: Any) -> Iterator[ServeProcess]:
    """Run `triosmtp serve ARGUMENTS` from its readiness to SIGTERM; it must end with 0, without a traceback."""
    server = start_server(*arguments, "--control", str(control), log=log, **options)
    with server.process:
        try:
            server.wait_until_ready()
            yield server
        finally:
            server.signal(signal.SIGTERM)
            guard = Timer(TIMEOUT, server.process.kill)
            guard.start()
            server.process.communicate()
            guard.cancel()
    assert server.process.returncode == 0, (server.process.returncode, server.log)
    assert "Traceback" not in server.log, server.log


def wait_for_log(log: Path, text: str, times: int = 1) -> None:
    """Return when the file `log` holds `text` so often: read again at each change of its folder."""
    deadline = monotonic() + TIMEOUT
    if log.read_text().count(text) >= times:
        return
    for _ in watch(log.parent, recursive=False, debounce=20, step=10, rust_timeout=1000, yield_on_timeout=True):
        if log.read_text().count(text) >= times:
            return
        assert monotonic() < deadline, log.read_text()


class LineClient:
    """A client that sends lines and reads lines."""

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
