"""Momentum's logs: exact lines of real sessions, which nobody forges, in files that can be rotated."""

import errno
import logging
import os
import re
import select
import signal
import smtplib
import time
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from serve_process import TIMEOUT, LineClient, run_server

import triosmtp
from triosmtp.event import AuthAttempted, ConnectionRefused, MessageAccepted, Refused, SessionInfo
from triosmtp.logs.momentum_log import MomentumLogs, open_logs

CONF = """
Deliver_To = "discard:"
Relay_Domains = ( "example.com" )
Log "mainlog" {{ Path = "{folder}/mainlog" }}
Log "rejectlog" {{ Path = "{folder}/rejectlog" }}
Log "acctlog" {{ Path = "{folder}/acctlog" }}
Pathway_Group "partners" {{ Pathway "inbound" {{ }} }}
ESMTP_Listener {{
  Pathway = "inbound"
  Context = [ where = "a,b]" ]
  Listen "127.0.0.1:0" {{ {more} }}
}}
"""


def config(folder: Path, more: str = "") -> triosmtp.Config:
    return triosmtp.parse_config(CONF.format(folder=folder, more=more))


def lines(path: Path) -> list[str]:
    text = path.read_bytes().decode()
    assert not text or text.endswith("\n")
    return text.split("\n")[:-1]


async def test_a_reception_is_a_line_a_recipient_and_a_refusal_one(tmp_path: Path) -> None:
    made = config(tmp_path)
    logs = open_logs(made)

    def client(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port) as smtp:
            smtp.sendmail('"a@b"@example.org', ["x@example.com", "y@example.com"], "Subject: hello\r\n\r\nHello.\r\n")
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                smtp.sendmail("a@example.org", ["x@elsewhere.example"], "")

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(triosmtp.serve, made, observers=(logs,)))
        port = server.addresses["127.0.0.1:0"][1]
        await trio.to_thread.run_sync(client, port)
        await server.aclose()
    logs.close()
    first, second = lines(tmp_path / "mainlog")
    assert re.fullmatch(
        r'\d{10}@[0-9a-f]+-1-1@[0-9a-f]+-1-1@[0-9a-f]+-1@R@x@example\.com@"a\\@b"@example\.org'
        r"@127\.0\.0\.1@26@esmtp@default@default",
        first,
    )
    assert second == first.replace("@R@x@", "@R@y@")
    [rejected] = lines(tmp_path / "rejectlog")
    assert re.fullmatch(
        rf'\d{{10}}: R="127\.0\.0\.1:\d+" L="127\.0\.0\.1:{port}" C="[0-9a-f]+-1" PATH="inbound" PATH_GRP="partners" '
        r'P="rcptto" E=550 M=relay CTXCONN=\[where=a\\,b\\\],pathway=inbound,.*connection_message_count=1\S*\] '
        r"CTXMESS=\[mailfrom_string=a@example\.org,.*rcptto_domain=elsewhere\.example\] 5\.7\.1 relaying denied",
        rejected,
    )
    assert lines(tmp_path / "acctlog") == []


HOSTILE = 'x@y\\"],z\r\n1700000000@forged\x00\x1b[2J\u2028\x85\u202e=[é'


def test_no_peer_can_forge_a_line_or_a_field(tmp_path: Path) -> None:
    logs = open_logs(config(tmp_path))
    session = SessionInfo(id="s", peer="192.0.2.1:25", listener=":25")
    for event in (
        MessageAccepted(
            session=SessionInfo(id="s", peer="[2001:db8::1]:25"),
            message="m",
            sender=HOSTILE,
            recipients=(HOSTILE,),
            size=1,
            seconds=1.0,
            tls=None,
        ),
        AuthAttempted(session=session, mechanism="PLAIN", user=HOSTILE, succeeded=False),
        Refused(
            session=SessionInfo(id="s", peer="p"),
            phase="ehlo",
            code=550,
            enhanced=None,
            text=HOSTILE,
            decided_by=HOSTILE,
            reason="",
            variables={HOSTILE: HOSTILE},
            message_variables={"a": HOSTILE},
        ),
    ):
        logs(event)
    logs.close()
    [main], [account], [reject] = (lines(tmp_path / name) for name in ("mainlog", "acctlog", "rejectlog"))
    for line in (main, account, reject):
        assert line.isprintable(), line
        assert len(line.splitlines()) == 1
    fields = re.split(r"(?<!\\)(?:\\\\)*@", main)
    assert len(fields) == 14
    assert fields[9:11] == ["2001:db8::1", "1"]
    assert len(re.split(r"(?<!\\)(?:\\\\)*@", account)) == 6
    assert reject.count(" CTXMESS=[") == 1
    assert re.search(r"(?<!\\)\] (?!CTX)", reject)


def test_times_have_microseconds_where_that_is_asked_for(tmp_path: Path) -> None:
    def write(logs: MomentumLogs) -> None:
        logs(attempt())
        logs(ConnectionRefused(peer="192.0.2.1:25", listener=":25", reason="Listener_Sessions"))
        for name in ("data", "rcptto"):
            logs(
                Refused(
                    session=SessionInfo(id="s", peer="192.0.2.1:25"),
                    phase=name,
                    code=550,
                    enhanced=None,
                    text="text",
                    decided_by="reason",
                    reason="",
                )
            )
        logs(
            MessageAccepted(
                session=SessionInfo(id="s", peer="192.0.2.1:25"),
                message="m",
                sender="a@b.example",
                recipients=("c@d.example",),
                size=1,
                seconds=1.0,
                tls=None,
            )
        )

    before = time.time()
    plain, hires = (
        config(tmp_path),
        triosmtp.parse_config("log_hires_timestamp = true" + CONF.format(folder=tmp_path, more="")),
    )
    logs = open_logs(hires)
    write(logs)
    logs.apply(open_logs(plain))
    write(logs)
    logs.apply(open_logs(hires))
    write(logs)
    logs.close()
    for name, separator in (("mainlog", "@"), ("rejectlog", ": "), ("acctlog", "@")):
        written = lines(tmp_path / name)
        times = [line.partition(separator)[0] for line in written]
        third = len(times) // 3
        assert third >= 1
        assert all(re.fullmatch(r"\d{10}\.\d{6}", each) for each in times[:third] + times[2 * third :])
        assert all(re.fullmatch(r"\d{10}", each) for each in times[third : 2 * third])
        assert all(int(before) <= float(each) <= time.time() + 1 for each in times)


def test_files_are_reopened_and_a_failing_disk_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs, event = open_logs(config(tmp_path)), attempt()
    logs(event)
    (tmp_path / "acctlog").rename(tmp_path / "acctlog.1")
    logs(event)
    logs.reopen()
    logs(event)
    assert [len(lines(tmp_path / name)) for name in ("acctlog.1", "acctlog")] == [2, 1]
    assert (tmp_path / "acctlog").stat().st_mode & 0o777 == 0o640 & ~umask()
    monkeypatch.setattr(logging.getLogger("triosmtp"), "propagate", True)
    write, full = os.write, True

    def no_space(descriptor: int, data: bytes) -> int:
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", no_space)
    logs(event)
    logs(event)
    told = [record for record in caplog.records if "No space left" in record.getMessage()]
    assert len(told) == 1
    full = False
    logs(event)
    assert len(lines(tmp_path / "acctlog")) == 2
    assert f"{tmp_path}/acctlog: No space left on device: 2 lines were lost" in caplog.messages
    logs.close()


def attempt(user: str = "u") -> AuthAttempted:
    return AuthAttempted(
        session=SessionInfo(id="s", peer="192.0.2.1:2", listener=":25"), mechanism="PLAIN", user=user, succeeded=True
    )


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


async def read_users(reader: int, count: int) -> list[str]:
    """Read as many lines of acctlog; return the user of each."""
    os.set_blocking(reader, False)
    data = b""
    with trio.fail_after(20):
        while data.count(b"\n") < count:
            await trio.lowlevel.wait_readable(reader)
            data += os.read(reader, 65536)
    assert data.endswith(b"\n")
    fields = [line.split("@") for line in data.decode().splitlines()]
    assert {tuple(each[1:4]) for each in fields} == {("N", ":25", "192.0.2.1:2")}
    return [each[4] for each in fields]


async def test_pending_lines_survive_reopening_and_reloads(
    tmp_path: Path, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("triosmtp"), "propagate", True)
    pipe, users = tmp_path / "acctlog", [f"u{number}" for number in range(5000)]
    os.mkfifo(pipe)
    logs = open_logs(config(tmp_path))
    nursery.start_soon(logs.run)
    await trio.testing.wait_all_tasks_blocked()
    for user in users[:4000]:  # far more than a pipe holds
        logs(attempt(user))
    writer, waiting = logs.files["acctlog"].writer, len(logs.files["acctlog"].writer._waiting)
    assert waiting > 1000
    logs.reopen()
    logs.apply(open_logs(config(tmp_path)))
    assert logs.files["acctlog"].writer is writer, "the same pipe stays open"
    assert len(writer._waiting) == waiting, "and nobody was waited for"
    for user in users[4000:]:
        logs(attempt(user))
    with pipe.open("r+b", buffering=0) as reader:
        assert await read_users(reader.fileno(), 5000) == users, "without a further line to write"
    assert not caplog.records
    writer._limit = 0
    for user in users:
        logs(attempt(user))
    trouble = f"{pipe}: nobody read it: lines are lost"
    assert [record.getMessage() for record in caplog.records] == [trouble], "told once, and at once"
    lost, held = writer.lost, 5000 - writer.lost
    with pipe.open("r+b", buffering=0) as reader:
        logs.reopen()
        assert await read_users(reader.fileno(), held) == users[:held]
        logs(attempt("next"))
        assert await read_users(reader.fileno(), 1) == ["next"], "no note stands among them"
    assert [record.getMessage() for record in caplog.records[1:]] == [f"{pipe}: nobody read it: {lost} lines were lost"]
    logs.close()


async def test_a_new_pipe_receives_the_pending_lines_and_a_removed_log_reports_its_loss(
    tmp_path: Path, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("triosmtp"), "propagate", True)
    pipe, users = tmp_path / "acctlog", [f"u{number}" for number in range(4000)]
    os.mkfifo(pipe)
    logs = open_logs(config(tmp_path))
    nursery.start_soon(logs.run)
    await trio.testing.wait_all_tasks_blocked()
    for user in users:
        logs(attempt(user))
    pipe.rename(tmp_path / "acctlog.1")
    os.mkfifo(pipe)
    with (tmp_path / "acctlog.1").open("r+b", buffering=0) as before, pipe.open("r+b", buffering=0) as reader:
        logs.reopen()
        await trio.testing.wait_all_tasks_blocked()
        os.set_blocking(before.fileno(), False)
        held = before.read(1 << 20).count(b"\n")
        assert await read_users(reader.fileno(), 4000 - held) == users[held:]
        assert not caplog.records
        for user in users:
            logs(attempt(user))
        waiting = len(logs.files["acctlog"].writer._waiting)
        logs.apply(open_logs(triosmtp.parse_config('ESMTP_Listener { Listen ":25" { } }')))
    assert [record.getMessage() for record in caplog.records] == [f"{pipe}: nobody read it: {waiting} lines were lost"]


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


def test_a_file_that_cannot_be_opened_names_its_place(tmp_path: Path) -> None:
    with pytest.raises(triosmtp.ConfigError, match=r'<string>:4:5: error: Log "mainlog": .*No such file') as caught:
        open_logs(triosmtp.parse_config(CONF.format(folder=tmp_path / "no", more="")))
    assert len(caught.value.problems) == 3
    assert isinstance(open_logs(triosmtp.parse_config('ESMTP_Listener { Listen ":25" { } }')), MomentumLogs)


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
