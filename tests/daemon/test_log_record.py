"""Log lines that nobody forges."""

import io
import logging
import sys

import pytest

from triosmtp.daemon.log import EventLog, configure
from triosmtp.event import Disconnected, MessageAccepted, PolicyFailed, Refused


def test_a_traceback_with_a_peers_words_is_indented_below_its_record(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logging.getLogger("triosmtp")
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(log, "propagate", True)
    monkeypatch.setattr(log, "level", log.level)
    monkeypatch.setattr(logging, "logThreads", True)
    monkeypatch.setattr(logging, "logProcesses", True)
    monkeypatch.setattr(logging, "logMultiprocessing", True)
    configure(sys.stderr)
    try:
        raise RuntimeError("EHLO x\n2026-01-01 00:00:00,000 INFO accepted forged\r\x1b[2J")
    except RuntimeError:
        logging.getLogger("triosmtp.policy").exception("it failed")
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.endswith("ERROR it failed")
    assert rest
    assert all(line.startswith("    ") for line in rest)
    assert "\x1b" not in "".join(rest)


HOSTILE = 'a"b\r\n2026-01-01 forged peer=x\x1b[2J\u2028\u202e'


@pytest.mark.parametrize(
    "event",
    [
        Disconnected("s", HOSTILE, HOSTILE, 1.0, 0),
        Refused("s", "p", "mailfrom", 550, "5.7.1", HOSTILE, HOSTILE, HOSTILE),
        PolicyFailed("s", "mailfrom", HOSTILE, HOSTILE),
        MessageAccepted(
            session="s",
            peer="p",
            message="m",
            sender=HOSTILE,
            recipients=(HOSTILE, HOSTILE),
            size=1,
            seconds=1.0,
            tls=None,
        ),
    ],
)
def test_an_event_is_one_line_of_plain_ascii(event: Disconnected | Refused | PolicyFailed | MessageAccepted) -> None:
    out = io.StringIO()
    EventLog(out, logging.DEBUG)(event)
    line = out.getvalue()
    assert line.endswith("\n")
    assert line[:-1].isascii()
    assert line[:-1].isprintable()
    assert "=x" not in line.replace('\\"', "").partition(" forged")[0]
