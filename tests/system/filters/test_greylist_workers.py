"""Greylisting by several workers, which share an SQLite file or a Redis."""

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
    options = 'Workers = 2 Greylist = true Greylist_File = "grey" Proxy_Protocol = ( "127.0.0.1" )'
    with ExitStack() as stack:
        if shared:
            options += f' Node_Name = "one" Limits_Store = "{stack.enter_context(running_redis()).url}"'
        _, port = stack.enter_context(serving(folder, options))
        clients = [f"192.0.{number}.9" for number in range(12)]
        waits = "450 4.7.1 Greylisted, try again in 300 seconds"
        assert [rcpt(port, client) for client in clients] == [waits] * 12
        until = time.monotonic() + 30
        while rcpt(port, clients[-1]) == waits:  # a second has passed when it is less
            assert time.monotonic() < until
        again = [rcpt(port, client) for client in clients]  # about half of them by the other worker
        assert all(each.startswith("450") for each in again)
        assert waits not in again
        assert (folder / "grey").exists() is not shared
