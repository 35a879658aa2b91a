"""Scripts in a server of its own: real sockets, workers, the console and a reload."""

import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from daemon_server import DaemonServer, daemon
from script_dialogue import SCRIPTS

LISTENS = """
Listen "127.0.0.1:0" {
  SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "AUTH PLAIN" )
  Allow_Plaintext_Auth = true
  Auth_Failure_Delay = 0.001
  AuthPlainParameters = [ uri = "ours://users" realm = "mail" ]
}
"""
NAMES = ("register_control", "register_auth", "header_write", "audit_series", "vctx_get")


def scripts(folder: Path, *names: str) -> str:
    """Write scripts into a folder, and return their stanza."""
    for name in names:
        text = (SCRIPTS / f"{name}.lua").read_text("utf-8").replace("{folder}", str(folder))
        (folder / f"{name}.lua").write_text(text)
    lines = "\n".join(f'  script "{name}" {{ source = "{name}" }}' for name in names)
    return f'scriptlet "scriptlet" {{\n{lines}\n}}\n'


@contextmanager
def served(folder: Path, workers: int) -> Iterator[DaemonServer]:
    stanza = scripts(folder, *NAMES)
    mail = f'Deliver_To = "maildir:{folder}/mail"\nRelay_Domains = ( "example.com" )\nWorkers = {workers}\n'
    with daemon(folder, LISTENS, mail + stanza) as server:
        yield server


def test_scripts_decide_over_sockets_in_each_worker(tmp_path: Path) -> None:
    with served(tmp_path, 2) as server:
        port = server.port("127.0.0.1:0")
        with smtplib.SMTP("127.0.0.1", port, local_hostname="mail.example.org", timeout=30) as client:
            client.ehlo()
            assert client.esmtp_features["auth"].strip() == "PLAIN"
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login("joe", "guess")
            assert client.login("joe", "secret")[0] == 235
            assert client.mail("a@example.net")[0] == 550  # vctx_get.lua
            client.sendmail("a@example.org", ["b@elsewhere.example"], "X-Replaced: old\r\nSubject: x\r\n\r\ny\r\n")
        (path,) = (tmp_path / "mail" / "new").iterdir()
        assert b"\nX-First: top\n" in path.read_bytes().replace(b"\r\n", b"\n")
        answer = server.console("seen")
        assert answer.status == 0
        assert answer.out.count("seen\t") == 2
        assert "Worker 2" in answer.out
        assert server.console("seen", "fail").status == 1


def test_a_reload_loads_all_scripts_again_or_changes_nothing(tmp_path: Path) -> None:
    with served(tmp_path, 1) as server:
        port = server.port("127.0.0.1:0")

        numbers = count()

        def refused(domain: str, sender: str = "") -> int:
            with smtplib.SMTP("127.0.0.1", port, local_hostname="mail.example.org", timeout=30) as client:
                client.ehlo()
                return client.mail(f"{sender or next(numbers)}@{domain}")[0]

        assert (refused("example.org"), refused("example.net")) == (250, 550)
        assert [refused("example.org", "same") for _ in range(2)] == [250, 250]
        script = tmp_path / "vctx_get.lua"
        before = script.read_text()
        script.write_text(before + "\nthis is no Lua")
        answer = server.console("config", "reload")
        assert answer.status == 78
        assert "vctx_get.lua" in answer.out + answer.err
        assert (refused("example.org"), refused("example.net")) == (250, 550)
        script.write_text(before.replace('"mail." .. domain', '"other." .. domain'))
        assert server.console("config", "reload").status == 0
        assert (refused("example.org"), refused("example.net")) == (550, 550)
        assert refused("example.org", "same") == 452  # audit_series.lua: its counters have gone on
