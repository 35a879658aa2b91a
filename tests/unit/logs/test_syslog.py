"""Log "syslog": datagrams to a socket, also if its reader stalls or restarts."""

import json
import logging
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from serve_process import TIMEOUT, LineClient, environment_of, run_server

from triosmtp import ConfigError, parse_config
from triosmtp.commands.check_command import check_config
from triosmtp.event import Disconnected, Refused, SessionInfo, TLSFailed
from triosmtp.logs import syslog
from triosmtp.logs.log_set import open_every_log
from triosmtp.logs.syslog import Destination, Syslog, SyslogSocket

CONF = """
Relay_Domains = ( "example.com" )
Deliver_To = "discard:"
Log "syslog" {{ Path = "{path}" {more} }}
ESMTP_Listener {{ Listen "127.0.0.1:0" {{ }} }}
"""
LINE = re.compile(rb"<(\d+)>([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) triosmtp\[(\d+)\]: (.*)", re.DOTALL)


class DevLog:
    """A datagram socket at a path, as a syslog daemon has it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(10)

    def read(self) -> tuple[int, str]:
        """Wait for a line; return priority and text."""
        data = self.socket.recv(100_000)
        match = LINE.fullmatch(data)
        assert match is not None, data
        return int(match[1]), match[4].decode()

    async def next(self) -> str:
        """Wait for a line without blocking the event loop; return its text."""
        with trio.fail_after(TIMEOUT):
            await trio.lowlevel.wait_readable(self.socket)
        return self.read()[1]

    def close(self) -> None:
        """Close the socket, as a daemon that is stopped."""
        self.socket.close()
        self.path.unlink()


@pytest.fixture
def dev_log(tmp_path: Path) -> Iterator[DevLog]:
    reader = DevLog(tmp_path / "log")
    yield reader
    reader.socket.close()


def mail(port: int) -> None:
    with LineClient(port) as client:
        client.read()
        client.ask("HELO c.example")
        client.ask("MAIL FROM:<me@example.net>")
        assert client.ask("RCPT TO:<you@example.org>").startswith("550")
        client.ask("RCPT TO:<you@example.com>")
        client.ask("DATA")
        assert client.ask("Subject: x\r\n\r\nx\r\n.").startswith("250")
        client.ask("QUIT")


def test_syslog_receives_the_lines_of_stderr(tmp_path: Path, dev_log: DevLog) -> None:
    path = tmp_path / "my.conf"
    path.write_text(CONF.format(path=dev_log.path, more="Facility = local3"))
    with run_server(
        "-c", str(path), log=tmp_path / "stderr", environment=environment_of(STATE_DIRECTORY=str(tmp_path))
    ) as daemon:
        mail(daemon.port())
        daemon.signal(signal.SIGHUP)
        told = [dev_log.read()]
        while not told[-1][1].startswith("configuration-reloaded"):
            told.append(dev_log.read())
        daemon.signal(signal.SIGTERM)
        while not told[-1][1].startswith("ended"):
            told.append(dev_log.read())
        assert daemon.wait() == 0
    assert {priority for priority, _ in told} == {19 * 8 + 6}
    names = [text.partition(" ")[0] for _, text in told]
    expected = ["serving", "refused", "accepted", "disconnected", "configuration-reloaded", "draining", "ended"]
    assert names == expected
    assert "session=" in told[2][1]
    for _, text in told:
        assert f" INFO {text}\n" in daemon.log


def test_json_is_an_object_in_each_datagram(tmp_path: Path, dev_log: DevLog) -> None:
    path = tmp_path / "my.conf"
    path.write_text(CONF.format(path=dev_log.path, more="Format = json"))
    with run_server(
        "-c", str(path), log=tmp_path / "stderr", environment=environment_of(STATE_DIRECTORY=str(tmp_path))
    ) as daemon:
        daemon.port()
        priority, text = dev_log.read()
        assert (priority, json.loads(text)["event"]) == (2 * 8 + 6, "serving")


def test_the_form_is_that_of_logger(dev_log: DevLog) -> None:
    command = ["logger", "-u", str(dev_log.path), "-t", "triosmtp", "--id=4711", "-p", "local3.warning", "a line"]
    subprocess.run(command, check=True)
    theirs = dev_log.socket.recv(1000)
    sock = SyslogSocket(Destination(dev_log.path, 19, "text"))
    sock.send(logging.WARNING, "a line")
    ours = dev_log.socket.recv(1000).replace(b"[%d]" % os.getpid(), b"[4711]")
    sock.close()
    form = re.compile(rb"(<\d+>)\w{3} [ \d]\d \d\d:\d\d:\d\d (.*)")
    assert [form.fullmatch(each) is not None for each in (theirs, ours)] == [True, True], (theirs, ours)
    assert form.sub(rb"\1\2", theirs) == form.sub(rb"\1\2", ours) == b"<156>triosmtp[4711]: a line"


HOSTILE = "a\r\n<0>forged\x1b\x00\u2028\u202e"


def test_no_text_of_a_peer_makes_a_datagram(dev_log: DevLog) -> None:
    log = Syslog()
    log.apply(SyslogSocket(Destination(dev_log.path, 2, "text")))
    log.subscription(
        Refused(
            session=SessionInfo(id="s", peer="p"),
            phase="mailfrom",
            code=550,
            enhanced="5.7.1",
            text=HOSTILE,
            decided_by=HOSTILE,
            reason=HOSTILE,
            sender=HOSTILE,
        )
    )
    log.subscription(TLSFailed(session=SessionInfo(id="s", peer=HOSTILE, listener="l"), reason="alert", detail=HOSTILE))
    record = logging.LogRecord("triosmtp", logging.ERROR, "", 0, "%s", (HOSTILE,), None)
    log.emit(record)
    log.subscription(Disconnected(session=SessionInfo(id="s", peer="p"), reason="quit", seconds=1.0, messages=0))
    told = [dev_log.read() for _ in range(6)]
    assert [priority for priority, _ in told] == [22, 20, 19, 19, 19, 22]
    assert [text.split(" ")[0] for _, text in told][:2] == ["refused", "tls-failed"]
    assert told[2][1] == "a"
    assert told[3][1].startswith("    <0>forged\\x1b")  # the record's second line, and indented
    assert all(text.isprintable() for _, text in told)
    log.apply(None)


def test_a_line_that_is_too_long_is_cut(dev_log: DevLog) -> None:
    sock = SyslogSocket(Destination(dev_log.path, 2, "text"))
    sock.send(logging.INFO, "ä" * 10_000)
    data = dev_log.socket.recv(100_000)
    assert 8180 < len(data) <= 8192
    assert data.decode().endswith("ä…")
    sock.close()


async def test_a_reader_that_stalls_delays_nothing_and_loses_lines(
    dev_log: DevLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(syslog, "_WAITING", 20_000)
    sock = SyslogSocket(Destination(dev_log.path, 2, "text"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sock.run)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(2000):
            sock.send(logging.INFO, f"line {number}")
        assert sum(map(len, sock._waiting)) <= 20_000
        assert [record.message.partition(": nobody")[0] for record in caplog.records] == [
            f'Log "syslog": {dev_log.path}'
        ]
        dev_log.socket.setblocking(False)
        told: list[str] = []
        while not told or "were lost" not in told[-1]:
            told.append(await dev_log.next())
        kept = len(told) - 1
        assert told[:-1] == [f"line {number}" for number in range(kept)]
        assert told[-1] == f"{2000 - kept} lines of this log were lost: nobody read it"
        assert sock.lost_total == 2000 - kept
        sock.send(logging.INFO, "again")
        assert await dev_log.next() == "again"
        nursery.cancel_scope.cancel()
    sock.close()


async def test_lines_outlive_a_restart_of_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(syslog, "_RETRY_SECONDS", 0.01)
    first = DevLog(tmp_path / "log")
    sock = SyslogSocket(Destination(first.path, 2, "text"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sock.run)
        await trio.testing.wait_all_tasks_blocked()
        sock.send(logging.INFO, "before")
        assert first.read()[1] == "before"
        first.close()
        sock.send(logging.INFO, "while it is away")
        await trio.to_thread.run_sync(sock.send, logging.INFO, "from a thread")
        assert len(caplog.records) == 1
        assert "No such file or directory: lines wait, and may be lost" in caplog.records[0].message
        second = DevLog(tmp_path / "log")
        second.socket.setblocking(False)
        told: list[str] = []
        while len(told) < 2:
            told.append(await second.next())
        assert told == ["while it is away", "from a thread"]
        sock.send(logging.INFO, "after")
        assert await second.next() == "after"
        nursery.cancel_scope.cancel()
    sock.close()
    second.close()


async def test_a_reload_sends_pending_lines_to_the_new_socket(tmp_path: Path) -> None:
    log = Syslog()
    old, new = DevLog(tmp_path / "old"), DevLog(tmp_path / "new")
    for reader in (old, new):
        reader.socket.setblocking(False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        await trio.testing.wait_all_tasks_blocked()
        log.apply(SyslogSocket(Destination(old.path, 2, "text")))
        kept = log.socket
        log.apply(SyslogSocket(Destination(old.path, 2, "text")))
        assert log.socket is kept
        for number in range(1000):
            log.subscription(
                Disconnected(session=SessionInfo(id=f"s{number}", peer="p"), reason="quit", seconds=1.0, messages=0)
            )
        log.apply(SyslogSocket(Destination(new.path, 2, "text")))
        told: list[str] = []
        while True:
            try:
                told.append(old.read()[1])
            except BlockingIOError:
                break
        while len(told) < 1000:
            told.append(await new.next())
        assert [text.split()[1] for text in told] == [f"session=s{number}" for number in range(1000)]
        log.apply(None)
        log.subscription(Disconnected(session=SessionInfo(id="s", peer="p"), reason="quit", seconds=1.0, messages=0))
        nursery.cancel_scope.cancel()
    for reader in (old, new):
        with pytest.raises(BlockingIOError):
            reader.socket.recv(1)
        reader.close()


def test_a_socket_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    for path, error in ((tmp_path / "gone", "No such file or directory"), (tmp_path / "file", "Connection refused")):
        (tmp_path / "file").touch()
        config = parse_config(CONF.format(path=path, more=""))
        if error == "Connection refused":  # as of a daemon that was stopped: it may come back
            open_every_log(config).close()
            continue
        with pytest.raises(ConfigError, match=f'Log "syslog": {path}: {error}'):
            open_every_log(config)
        assert f'Log "syslog": {path}: {error}' in [problem.message for problem in check_config(config)]
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with stream:
        stream.bind(str(tmp_path / "stream"))
        with pytest.raises(ConfigError, match="Protocol wrong type"):
            open_every_log(parse_config(CONF.format(path=tmp_path / "stream", more="")))


def test_options_of_the_scope() -> None:
    with pytest.raises(ConfigError, match=r"expected mail, user, .* or local7, found \"local8\""):
        parse_config(CONF.format(path="x", more="Facility = local8"))
    config = parse_config(f'Log "mainlog" {{ Path = x Facility = news }} {CONF.format(path="y", more="")}')
    (warning,) = config.warnings
    assert warning.message == 'Facility has no effect in Log "mainlog": it is for Log "syslog"'
    plain = parse_config('Log "syslog" { } ESMTP_Listener { Listen ":25" { } }')
    (log,) = plain.logs
    assert (log.path, log.facility, log.format) == (None, "mail", "auto")
    if not os.path.lexists("/dev/log"):
        with pytest.raises(ConfigError, match='Log "syslog": /dev/log: '):
            open_every_log(plain)
