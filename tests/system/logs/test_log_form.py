"""The log on stderr as JSON if stderr is no terminal: one object in each line, with any data of a peer."""

import io
import json
import signal
from pathlib import Path

import pytest
from serve_process import LineClient, environment_of, run_server

import triosmtp
from triosmtp.logs.log_set import form_of

CONF = """
Deliver_To = "discard:"
Relay_Domains = ( "example.com" )
{log}
ESMTP_Listener {{ Listen "127.0.0.1:0" {{ }} }}
"""


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
