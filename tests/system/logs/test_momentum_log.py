"""Momentum's logs: exact lines of real sessions, which nobody forges, in files that can be rotated."""

import os
import re
import select
import signal
import smtplib
from pathlib import Path

import pytest
from momentum_events import CONF, lines
from serve_process import TIMEOUT, LineClient, run_server

import triosmtp


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ('Log "mainlog" { }', 'Log "mainlog" needs a Path'),
        ('Log "stderr" { Path = "/x" }', 'Log "stderr" has no Path'),
        ('Log "mainlgo" { Path = "/x" }', "expected mainlog, rejectlog, acctlog, stderr"),
        ('Log "mainlog" { Path = "/x" } Log "acctlog" { Path = "/x" }', 'has the Path of Log "mainlog"'),
    ],
)
def test_an_invalid_log_is_an_error(log: str, said: str) -> None:
    with pytest.raises(triosmtp.ConfigError, match=said):
        triosmtp.parse_config(f'{log} ESMTP_Listener {{ Listen ":25" {{ }} }}')


def test_a_hangup_rotates_the_logs_of_a_running_server(tmp_path: Path) -> None:
    path = tmp_path / "my.conf"
    path.write_text(CONF.format(folder=tmp_path, more=""))
    control = tmp_path / "control"
    with run_server("-c", str(path), "--control", str(control), log=tmp_path / "log") as daemon:
        port = daemon.port()
        with LineClient(port) as client:
            client.read()
            client.ask("BOGUS")
            (tmp_path / "rejectlog").rename(tmp_path / "rejectlog.1")
            daemon.read_until("Control socket")
            daemon.signal(signal.SIGHUP)
            while not (tmp_path / "rejectlog").exists():
                client.ask("NOOP")
            client.ask("BOGUS")
        assert [len(lines(tmp_path / name)) for name in ("rejectlog.1", "rejectlog")] == [1, 1]
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0


def test_a_server_continues_if_nobody_reads_its_pipe(tmp_path: Path) -> None:
    pipe, path = tmp_path / "rejectlog", tmp_path / "my.conf"
    limits = "Max_Refused_Recipients = 1000 Max_Junk_Commands = 1000000"
    path.write_text(CONF.format(folder=tmp_path, more=limits))
    os.mkfifo(pipe)
    with (
        run_server("-c", str(path), "--control", str(tmp_path / "control"), log=tmp_path / "log") as daemon,
        smtplib.SMTP("127.0.0.1", daemon.port()) as client,
    ):
        client.ehlo()
        client.mail(f"{'a' * 60}@example.org")
        for number in range(400):
            assert client.rcpt(f"{number}@elsewhere.example")[0] == 550
        daemon.signal(signal.SIGHUP)
        daemon.wait_for_log("configuration-reloaded")
        data, reader = b"", os.open(pipe, os.O_RDONLY)
        while data.count(b"\n") < 400:
            assert select.select([reader], [], [], TIMEOUT / 2)[0], data[-100:]
            data += os.read(reader, 65536)
        os.close(reader)
        assert [int(each) for each in re.findall(rb"rcptto_localpart=(\d+)", data)] == list(range(400))
        daemon.signal(signal.SIGTERM)
    assert "lost" not in daemon.log
