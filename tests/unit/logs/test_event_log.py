"""The log of events: text and JSON."""

import io
import json
import logging
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from full_disk import FULL, full_at

import triosmtp
from triosmtp.event import ConfigurationReloadFailed, Disconnected, MessageAccepted, PolicyFailed, Refused, SessionInfo
from triosmtp.logs.event_log import EventLog, configure
from triosmtp.logs.log_set import Logs

HOSTILE = 'a"b\r\n{"event":"accepted"}\x1b[2J\u2028\u202e\ud800'


def test_an_event_is_one_object_on_one_line() -> None:
    out = io.StringIO()
    log = EventLog(out, logging.DEBUG, "json")
    log(
        Refused(
            session=SessionInfo(id="s", peer="p"),
            phase="mailfrom",
            code=550,
            enhanced="5.7.1",
            text=HOSTILE,
            decided_by=HOSTILE,
            reason=HOSTILE,
        )
    )
    log(
        MessageAccepted(
            session=SessionInfo(id="s", peer="p"),
            message="m",
            sender="",
            recipients=("a@x", HOSTILE),
            size=1,
            seconds=1.00004,
            tls=None,
            variables={"auth_status": "pass", "auth_user": "u"},
        )
    )
    log(ConfigurationReloadFailed(path="p", reason="r", problems=()))
    assert out.getvalue().isascii()
    refused, accepted, failed = map(json.loads, out.getvalue().splitlines())
    assert refused["event"] == "refused"
    assert (refused["code"], refused["text"]) == (550, HOSTILE)
    assert accepted | {"time": ""} == {
        "time": "", "level": "info", "event": "accepted", "session": "s", "message": "m", "peer": "p", "from": "",
        "to": ["a@x", HOSTILE], "size": 1, "user": "u", "seconds": 1.0, "decided_by": "delivery", "tls": "off",
    }  # fmt: skip
    assert failed["level"] == "error"


@pytest.fixture
def unconfigured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the configuration of logging after the test."""
    log = logging.getLogger("triosmtp")
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(log, "propagate", True)
    monkeypatch.setattr(log, "level", log.level)
    monkeypatch.setattr(logging, "logThreads", True)
    monkeypatch.setattr(logging, "logProcesses", True)
    monkeypatch.setattr(logging, "logMultiprocessing", True)


@pytest.mark.usefixtures("unconfigured")
def test_a_traceback_with_a_peers_words_is_indented_below_its_record(capsys: pytest.CaptureFixture[str]) -> None:
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


@pytest.mark.usefixtures("unconfigured")
def test_lost_lines_are_reported_in_the_form_of_the_log(tmp_path: Path) -> None:
    for form in ("json", "text"):
        more = f'Log "acctlog" {{ Path = "{tmp_path}/acctlog" }} ESMTP_Listener {{ Listen ":25" {{ }} }}'
        config = triosmtp.parse_config(f'Log "stderr" {{ Format = {form} }} {more}')
        with (tmp_path / form).open("a") as stream:
            logs = Logs(config, stream)
            with full_at(0):
                logging.getLogger("triosmtp").warning("lost")
                logs.observers[0](
                    Disconnected(session=SessionInfo(id="s", peer="p"), reason="quit", seconds=1.0, messages=0)
                )
            logs.observers[0](
                Disconnected(session=SessionInfo(id="s", peer="p"), reason="quit", seconds=1.0, messages=0)
            )
            assert logs.lost_lines() == {"stderr": 2, "acctlog": 0}
            logs.close()
        logging.getLogger("triosmtp").handlers.clear()
    said = f"2 lines of this log were lost: {FULL}"
    _, told = map(json.loads, (tmp_path / "json").read_text().splitlines())
    assert (told["level"], told["event"], told["message"]) == ("warning", "log", said)
    assert datetime.fromisoformat(told["time"]).tzinfo is UTC
    assert re.fullmatch(
        rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d,\d{{3}} WARNING {said}", (tmp_path / "text").read_text().splitlines()[1]
    )


HOSTILE_TEXTS = 'a"b\r\n2026-01-01 forged peer=x\x1b[2J\u2028\u202e'


@pytest.mark.parametrize(
    "event",
    [
        Disconnected(session=SessionInfo(id="s", peer=HOSTILE_TEXTS), reason=HOSTILE_TEXTS, seconds=1.0, messages=0),
        Refused(
            session=SessionInfo(id="s", peer="p"),
            phase="mailfrom",
            code=550,
            enhanced="5.7.1",
            text=HOSTILE_TEXTS,
            decided_by=HOSTILE_TEXTS,
            reason=HOSTILE_TEXTS,
        ),
        PolicyFailed(session=SessionInfo(id="s", peer=""), phase="mailfrom", policy=HOSTILE_TEXTS, error=HOSTILE_TEXTS),
        MessageAccepted(
            session=SessionInfo(id="s", peer="p"),
            message="m",
            sender=HOSTILE_TEXTS,
            recipients=(HOSTILE_TEXTS, HOSTILE_TEXTS),
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
