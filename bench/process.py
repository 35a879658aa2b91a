"""A server under measurement: started on one CPU, its process tree's CPU time and memory read from /proc."""

import os
import resource
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from attrs import frozen

__all__ = ["LOAD_CPU", "SERVER_CPU", "Server", "free_port", "raise_descriptor_limit", "run_server"]

SERVER_CPU = 0
LOAD_CPU = 1

_TICK = os.sysconf("SC_CLK_TCK")
_START_SECONDS = 20
_STOP_SECONDS = 10


@frozen(slots=True)
class Server:
    """A running server: the process that was started, and the port of 127.0.0.1 that it answers on."""

    pid: int
    port: int

    def cpu_seconds(self) -> float:
        """Return user and system time of the whole process tree so far, that of children that have ended included."""
        return sum(_cpu_ticks(pid) for pid in _tree(self.pid)) / _TICK

    def main_cpu_seconds(self) -> float:
        """Return the user and system time of the first process alone: with workers, of the supervisor."""
        threads = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9

    def memory(self, field: str = "VmRSS") -> int:
        """Return the octets of memory of the process tree: ``VmRSS`` now, ``Pss`` its share, ``VmHWM`` the maximum."""
        file = "smaps_rollup" if field == "Pss" else "status"
        return sum(_octets(Path(f"/proc/{pid}/{file}"), field) for pid in _tree(self.pid))

    def forget_peak(self) -> None:
        """Reset ``VmHWM`` to the current resident size (proc(5), clear_refs)."""
        for pid in _tree(self.pid):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def _cpu_ticks(pid: int) -> int:
    # The command's name, the second field, may hold anything: count from its closing parenthesis (proc(5)).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime


def _octets(file: Path, name: str) -> int:
    for line in file.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"{file} has no {name}")


def _tree(root: int) -> list[int]:
    pids = [root]
    for pid in pids:  # grows while it is read
        for task in Path(f"/proc/{pid}/task").iterdir():
            pids += map(int, (task / "children").read_text().split())
    return pids


def raise_descriptor_limit() -> None:
    """Let this process, and those that it starts, open as many descriptors as the system allows."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_port() -> int:
    """Find a port of 127.0.0.1 that nobody uses just now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert isinstance(port, int)
    return port


@contextmanager
def run_server(command: Sequence[str], port: int, log: IO[bytes], cpus: str = str(SERVER_CPU)) -> Iterator[Server]:
    """Run ``command`` on the CPUs of that list, wait for its banner on ``port``, and stop it in the end.

    :raises RuntimeError: if it ends or prints nothing within 20 s; its output is in ``log``.
    """
    pinned = ["taskset", "--cpu-list", cpus, *command]
    process = subprocess.Popen(pinned, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_for_banner(process, port)
        yield Server(process.pid, port)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_banner(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode}")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2) as sock:
                if sock.recv(4096).startswith(b"220"):
                    sock.sendall(b"QUIT\r\n")
                    return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"no banner on port {port} within {_START_SECONDS} s")
