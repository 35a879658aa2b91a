"""The log on stderr as JSON if stderr is no terminal: one object in each line, with any data of a peer."""

import io
import json
import logging
import signal
from pathlib import Path

import pytest
from serve_process import LineClient, environment_of, run_server

import triosmtp
from triosmtp.event import ConfigurationReloadFailed, MessageAccepted, Refused, SessionInfo
from triosmtp.logs.event_log import EventLog
from triosmtp.logs.log_set import form_of

CONF = """
Deliver_To = "discard:"
Relay_Domains = ( "example.com" )
{log}
ESMTP_Listener {{ Listen "127.0.0.1:0" {{ }} }}
"""
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


def test_a_server_whose_stderr_is_a_file_writes_only_json_objects(tmp_path: Path) -> None:
    path = tmp_path / "my.conf"
    path.write_text(CONF.format(log="Bounce_Domains = ( a )"))  # an option of Momentum's that is not built: a warning
    environment = environment_of(TRIOSMTP_LOG_FORMAT="", STATE_DIRECTORY=str(tmp_path))
    with run_server("-c", str(path), log=tmp_path / "log", environment=environment) as daemon:
        with LineClient(daemon.port()) as client:
            client.read()
            assert client.ask('EHLO x"}\x7f{"event":"forged"}').startswith("5")
            assert '"event":"refused"' in daemon.log, "before the client hears of it"
            client.ask("QUIT")
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
    records = [json.loads(line) for line in daemon.log.splitlines()]
    assert {"log", "refused", "disconnected"} <= {record["event"] for record in records}
    assert any("Bounce_Domains" in record.get("message", "") for record in records)


def test_the_terminal_and_the_environment_choose_the_form(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    plain = triosmtp.parse_config(CONF.format(log=""))
    text = triosmtp.parse_config(CONF.format(log='Log "stderr" { Format = text }'))
    monkeypatch.delenv("TRIOSMTP_LOG_FORMAT")
    assert [form_of(plain, Terminal()), form_of(plain, io.StringIO())] == ["text", "json"]
    assert form_of(text, io.StringIO()) == "text"
    monkeypatch.setenv("TRIOSMTP_LOG_FORMAT", "json")
    assert [form_of(plain, Terminal()), form_of(text, Terminal())] == ["json", "text"]
