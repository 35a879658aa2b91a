"""The sessions and log lines that README shows are those of its configuration."""

import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from serve_process import environment_of, run_server

from triosmtp.x509.authority import Authority

README = (Path(__file__).parents[3] / "README.md").read_text()
SHORTENED = "…"


def block(containing: str) -> str:
    """Return the block of README that has this text."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    [found] = [text for text in blocks if containing in text]
    return str(found)


def assert_shows(shown: str, real: list[str]) -> None:
    """Check that each line of `shown` is in `real`, in this order; an ellipsis stands for any text."""
    lines = iter(real)
    for line in filter(None, shown.splitlines()):
        pattern = re.compile(".*".join(map(re.escape, line.split(SHORTENED))))
        assert any(pattern.fullmatch(each) for each in lines), line


def test_readme_shows_a_refused_and_an_accepted_session_and_their_log(tmp_path: Path) -> None:
    if shutil.which("swaks") is None:
        pytest.skip("swaks is not installed")
    authority = Authority.create("partners")
    past = datetime.now(UTC) - timedelta(days=1)
    authority.issue("mail.partner.example", not_after=past).write(tmp_path, "expired")
    authority.issue("mail.partner.example").write(tmp_path, "valid")
    authority.issue("mx.example.com", dns=["mx.example.com"]).write(tmp_path, "cert")
    (tmp_path / "cert.key").rename(tmp_path / "key.pem")
    (tmp_path / "partners.pem").write_bytes(authority.certificate_pem)
    conf, log = tmp_path / "triosmtp.conf", tmp_path / "log"
    text = block("TLS_Require_Verified = true").replace('":25"', '"127.0.0.1:0"')
    conf.write_text(text.replace("/var/mail", str(tmp_path)).replace("/etc/triosmtp", str(tmp_path)))
    environment = environment_of(STATE_DIRECTORY=str(tmp_path / "state"), TRIOSMTP_LOG_FORMAT="text")
    with run_server("-c", str(conf), log=log, environment=environment) as daemon:
        server = f"127.0.0.1:{daemon.port()}"
        sessions = re.findall(r"^\$ ([^\n]*)\n(.*?)(?=^\$|\Z)", block("$ swaks"), re.MULTILINE | re.DOTALL)
        for command, shown in sessions:
            words = command.replace("mx.example.com", server).split()
            done = subprocess.run(
                [*words, "--ehlo", "mail.partner.example"], check=False, cwd=tmp_path, capture_output=True, text=True
            )
            assert_shows(shown, done.stdout.splitlines())
        daemon.wait_for_log(" accepted ")
        assert_shows(block("INFO accepted"), daemon.log.splitlines())
    assert len(sessions) == 2
    assert len(list((tmp_path / "incoming" / "new").iterdir())) == 1
