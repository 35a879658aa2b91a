"""Greylisting by several workers, which share an SQLite file or a Redis."""

import re
import smtplib
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from filter_site import filter_folder, serving
from redis_server import running_redis


@pytest.fixture
def folder() -> Iterator[Path]:
    with filter_folder() as path:
        yield path


class Proxied(smtplib.SMTP):
    """A client behind a proxy."""

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        found = socket.create_connection((host, port), timeout)
        found.sendall(b"PROXY TCP4 %s 192.0.2.2 1024 25\r\n" % self.local_hostname.encode())
        return found


def rcpt(port: int, client: str) -> str:
    with Proxied(local_hostname=client, timeout=30) as session:
        session.connect("127.0.0.1", port)
        session.ehlo("client.example.org")
        session.docmd("MAIL FROM:<a@example.org>")
        code, text = session.docmd("RCPT TO:<you@example.com>")
        return f"{code} {text.decode()}"


@pytest.mark.parametrize("shared", [False, True])
def test_workers_remember_together(folder: Path, shared: bool) -> None:
    options = 'Workers = 2 Greylist = true Greylist_Delay = 1 Greylist_File = "grey" Proxy_Protocol = ( "127.0.0.1" )'
    with ExitStack() as stack:
        if shared:
            options += f' Node_Name = "one" Limits_Store = "{stack.enter_context(running_redis()).url}"'
        program, port = stack.enter_context(serving(folder, options))
        assert rcpt(port, "192.0.2.9") == "450 4.7.1 Greylisted, try again in 1 seconds"
        until = time.monotonic() + 30
        while rcpt(port, "192.0.2.10").startswith("450"):  # of the same network; each at another worker
            assert time.monotonic() < until
        assert [rcpt(port, "192.0.2.11")[:3] for _ in range(2)] == ["250", "250"]
        assert rcpt(port, "198.51.100.1").startswith("450")
        assert (folder / "grey").exists() is not shared
    workers = set(re.findall(r'session(?:":"|=)([0-9a-f]+)-', program.log))
    assert len(workers) == 2
