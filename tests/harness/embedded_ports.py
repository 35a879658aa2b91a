"""The fixed ports of the embedded default, for one run of tests at a time."""

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PORTS = (2525, 2465)


@contextmanager
def ports_of_one_run(*more: int) -> Iterator[None]:
    """Wait until no other run, of another Python for example, uses the ports of the default; skip if they are busy."""
    with (Path(tempfile.gettempdir()) / "triosmtp-tests-embedded-default.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for port in (*PORTS, *more):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    skip_or_fail(f"port {port} is busy on this machine")
        yield


def skip_or_fail(reason: str) -> None:
    """Fail in CI, else skip the test."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
