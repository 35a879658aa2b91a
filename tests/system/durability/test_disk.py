"""Disks that are full or read-only: 452 4.3.1, a loud log line, nothing half-written, and mail again afterwards."""

import re
import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mail_server import MailServer, remount, serving, small_disk

LARGE = b"Subject: large\r\n\r\n" + (b"x" * 78 + b"\r\n") * 40_000  # 3.2 MB: does not stay in memory
FULL = (452, b"4.3.1 Insufficient system storage")


@contextmanager
def connected(server: MailServer) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP("127.0.0.1", server.port, "client.example.org", 30) as client:
        client.ehlo()
        yield client


def send(client: smtplib.SMTP, body: bytes) -> tuple[int, bytes]:
    """Send one message and return the last reply; every one before it is positive."""
    assert client.mail("me@example.org")[0] == 250
    assert client.rcpt("you@example.com")[0] == 250
    return client.data(body)


def errors(server: MailServer) -> list[str]:
    return re.findall(r"^.* ERROR .*$", server.log, re.MULTILINE)


def make_body(number: int) -> bytes:
    return b"Subject: %d\r\n\r\n" % number + b"x" * 10_000 + b"\r\nend %d\r\n" % number


def fill(client: smtplib.SMTP) -> int:
    """Send until the disk is full; return how many were taken."""
    for number in range(100):
        reply = send(client, make_body(number))
        if reply[0] != 250:
            assert reply == FULL
            return number
    raise AssertionError("the disk was never full")


def whole(server: MailServer) -> set[int]:
    numbers = set()
    for path in server.files("new"):
        match = re.search(rb"Subject: (\d+)\n\nx{10000}\nend (\d+)\n\Z", path.read_bytes())
        assert match, f"{path} is not whole"
        assert match[1] == match[2]
        numbers.add(int(match[1]))
    return numbers


def test_a_full_maildir(tmp_path: Path) -> None:
    with small_disk(tmp_path / "Maildir", "256k"), serving(tmp_path) as server, connected(server) as client:
        taken = fill(client)
        assert taken > 10
        assert client.noop()[0] == 250
        assert send(client, make_body(taken)) == FULL
        assert whole(server) == set(range(taken))
        assert server.files("tmp") == []
        assert len(errors(server)) == 2
        assert all("NOT stored" in line and "No space left on device" in line for line in errors(server))
        server.files("new")[0].unlink()
        assert send(client, make_body(taken))[0] == 250
        assert whole(server) == set(range(1, taken + 1))
        assert "messages are stored again" in server.log


def test_a_read_only_maildir(tmp_path: Path) -> None:
    with small_disk(tmp_path / "Maildir", "1m"), serving(tmp_path) as server, connected(server) as client:
        assert send(client, make_body(0))[0] == 250
        remount(server.maildir, "ro")
        assert send(client, make_body(1)) == FULL
        assert client.noop()[0] == 250
        [line] = errors(server)
        assert "NOT stored" in line
        assert "Read-only file system" in line
        remount(server.maildir, "rw")
        assert send(client, make_body(2))[0] == 250
        assert whole(server) == {0, 2}
        assert server.files("tmp") == []


def test_a_maildir_whose_folders_were_removed(tmp_path: Path) -> None:
    with serving(tmp_path) as server, connected(server) as client:
        assert send(client, make_body(0))[0] == 250
        server.maildir.rename(tmp_path / "elsewhere")
        server.maildir.write_text("a file stands in the way")
        assert send(client, make_body(1)) == FULL
        assert len(errors(server)) == 1
        server.maildir.unlink()
        assert send(client, make_body(2))[0] == 250
        assert whole(server) == {2}


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_spool_that_cannot_be_written(tmp_path: Path, fault: str) -> None:
    with small_disk(tmp_path / "spool", "1m"), serving(tmp_path) as server, connected(server) as client:
        if fault == "read-only":
            remount(server.spool, "ro")
        for _ in range(2):
            assert send(client, LARGE) == FULL
        assert client.noop()[0] == 250
        assert send(client, make_body(0))[0] == 250  # stays in memory
        assert len(errors(server)) == 2
        assert all(str(server.spool) in line for line in errors(server))
        remount(server.spool, "rw,size=16m")
        assert send(client, LARGE)[0] == 250
        large = [path for path in server.files("new") if b"Subject: large" in path.read_bytes()]
        assert [path.read_bytes().endswith(LARGE.replace(b"\r\n", b"\n")) for path in large] == [True]
        assert len(server.files("new")) == 2
        assert list(server.spool.iterdir()) == []
