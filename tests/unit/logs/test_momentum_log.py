"""The lines of Momentum's logs."""

import re
import smtplib
import time
from functools import partial
from pathlib import Path

import pytest
import trio
from momentum_events import CONF, attempt, config, lines

import triosmtp
from triosmtp.event import AuthAttempted, ConnectionRefused, MessageAccepted, Refused, SessionInfo
from triosmtp.logs.momentum_log import MomentumLogs, open_logs


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
