"""Debian's postgrey and policyd-spf, asked by `triosmtp serve`."""

import os
import re
import signal
import smtplib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from filter_site import filter_folder, message, serving
from policyd_daemons import policyd_spf, postgrey
from policyd_service import action, policyd_service
from serve_process import COMMAND


@pytest.fixture
def folder() -> Iterator[Path]:
    with filter_folder() as path:
        yield path


def retried(port: int, folder: Path, certificate: str | None = None) -> str:
    """Try again until postgrey's clock has gone on by its delay, a second."""
    until = time.monotonic() + 30
    while (reply := message(port, folder, certificate)).startswith("450") and time.monotonic() < until:
        pass
    return reply


@pytest.mark.skipif(os.geteuid() != 0, reason="postgrey becomes another user")
@pytest.mark.parametrize("workers", [1, 2])
def test_postgrey_greylists_is_killed_and_comes_back(folder: Path, workers: int) -> None:
    options = f'Workers = {workers} Policy = ( "policyd:unix:postgrey" )'
    with postgrey(folder), serving(folder, options) as (program, port):
        first = message(port, folder)
        assert re.fullmatch(r"450 4\.2\.0 <you@example\.com>: Recipient address rejected: Greylisted, see .*", first)
        assert message(port, folder, "", "me@example.com").startswith("450 4.2.0")
        assert retried(port, folder, "good").startswith("250")  # the same triplet
        with_header = next((folder / "mail" / "new").iterdir()).read_text()
        assert re.search(r"^X-Greylist:\s+delayed \d+ seconds by postgrey", with_header, re.MULTILINE)
    assert f"decided_by=policyd:unix:{folder}/postgrey " in program.log


@pytest.mark.skipif(os.geteuid() != 0, reason="postgrey becomes another user")
def test_a_killed_or_stopped_postgrey_is_the_fallback_and_is_asked_again_when_it_is_back(folder: Path) -> None:
    options = 'Policy = ( "filter:grey" ) Filter "grey" { Connect_To = "policyd:unix:postgrey" Policy_Timeout = 0.5 }'
    with serving(folder, options) as (program, port):
        with postgrey(folder) as process:
            assert message(port, folder).startswith("450 4.2.0")
            process.send_signal(signal.SIGSTOP)
            assert message(port, folder).startswith("451 4.3.0 Local error")
            process.send_signal(signal.SIGCONT)
            assert retried(port, folder).startswith("250")
            process.kill()
            process.wait()
            assert message(port, folder).startswith("451 4.3.0 Local error")
        with postgrey(folder):
            assert message(port, folder).startswith("250")
        assert len(list((folder / "mail" / "new").iterdir())) == 2
    told = re.findall(r'policy-fallback .* group=(\S+) .* failure="([^"]*)"', program.log)
    assert [name for name, _ in told] == ["filter:grey"] * 2
    assert told[0][1] == "timed out after 0.5 s"
    assert "cannot connect" in told[1][1]


def test_policyd_spf_prepends_one_field_to_a_message(folder: Path) -> None:
    options = """
        Policy = ( "policyd:unix:spf" )
        Relay_Hosts = ( "127.0.0.1" )
    """
    with policyd_spf(folder), serving(folder, options) as (_, port):
        with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
            client.ehlo("client.example.org")
            client.docmd("MAIL FROM:<a@example.org>")
            assert [client.docmd(f"RCPT TO:<{name}@example.com>")[0] for name in ("one", "two")] == [250, 250]
            client.docmd("DATA")
            client.send(b"Subject: x\r\n\r\nhello\r\n.\r\n")
            assert client.getreply()[0] == 250
        text = next((folder / "mail" / "new").iterdir()).read_text()
        # Two recipients, one instance: it answers the second with DUNNO.
        assert len(re.findall(r"^X-Comment:\s+SPF check N/A for local", text, re.MULTILINE)) == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_show_policy_and_check_know_filters_by_name(folder: Path, workers: int) -> None:
    with policyd_service("OK") as service:
        options = f'Workers = {workers} Policy = ( "{service.address}" "filter:idle" )'
        options += ' Filter "idle" { Connect_To = "policyd:inet:[::1]:9" Phases = ( data_spool ) }'
        with serving(folder, options) as (_, port):
            assert message(port, folder).startswith("451 4.3.0")
            service.answer = action("550 5.1.1 Unknown")
            assert message(port, folder).startswith("550 5.1.1")
            console = [*COMMAND, "console", "--control", str(folder / "control"), "show", "policy"]
            shown = subprocess.run(console, check=True, capture_output=True, text=True, cwd=folder).stdout
            assert re.search(rf"group {re.escape(service.address)}: 1 deciders at rcptto; asked 2, answered 2", shown)
            assert re.search(r"group filter:idle: 0 deciders at data_spool; asked 1, .*fallbacks 1", shown)
    assert service.connections == 1


def test_what_is_not_configured_is_not_imported(folder: Path) -> None:
    code = "import sys, triosmtp.daemon.serve_command, triosmtp.server.server; print('triosmtp.filters' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert found == "False\n"
