"""The commands of the console."""

import json
import smtplib
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_server import DaemonServer, daemon

LISTEN = "127.0.0.1:0"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonServer]:
    listen = 'Listen "127.0.0.1:0" { Peer "10.0.0.0/8" { Idle_Time = 30 } }'
    with daemon(tmp_path_factory.mktemp("console"), listen) as running:
        yield running


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("config reload", f'triosmtp.conf is in force\nListen "{LISTEN}" kept\n'),
        ("config show", 'Relay_Domains = ( "example.com" )  # '),
        ("config show ESMTP_Listener", 'SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" )  # '),
        ("config showrecurse", '    Peer "10.0.0.0/8" {\n      Idle_Time = 30  # '),
        ("config get Relay_Domains", 'Relay_Domains = ( "example.com" )  # '),
        (f"config get esmtp_listener listen {LISTEN} peer 10.0.0.0/8 idle_time", "Idle_Time = 30  # "),
        ("config eval Idle_Time", "Idle_Time = 300  # default\n"),
        ("config eval --peer 10.0.0.1 Idle_Time", "Idle_Time = 30  # "),
        ("CONFIG EVAL --local 127.0.0.1:0 Idle_Time", "Idle_Time = 300  # default\n"),
        ("show inbound", "0 sessions\n"),
        ("tls show cache", f'  used by     Listen "{LISTEN}"\n              Listen "{LISTEN}" Peer "10.0.0.0/8"\n'),
        ("tls flush cache", "certificate files unchanged\n"),
        ("version", "trio 0."),
        ("help", "shutdown "),
    ],
)
def test_every_command_answers_in_text_and_in_json(server: DaemonServer, command: str, expected: str) -> None:
    result = server.console(command)
    assert (result.status, result.err) == (0, "")
    assert expected in result.out
    answer = json.loads(server.console("--json", command).out)
    assert answer["status"] == 0
    assert answer["data"] is not None
    if command not in {"tls show cache", "config reload"}:  # they tell an age, and a path
        assert answer["text"] == result.out.rstrip("\n")


def test_words_may_come_without_quotes(server: DaemonServer) -> None:
    assert server.console("config", "eval", "Idle_Time").out == "Idle_Time = 300  # default\n"


@pytest.mark.parametrize(
    ("command", "status", "expected"),
    [
        ("no such thing", 64, "unknown command 'no such thing'; help lists the commands\n"),
        ("show", 64, "unknown command 'show'"),
        ("show inbound now", 64, "show inbound takes no arguments\n"),
        ("config get Idle_Tme", 64, "unknown scope or option Idle_Tme; did you mean Idle_Time?\n"),
        ("config get Idle_Time", 1, "Idle_Time is not set in that scope\n"),
        ("config get", 64, "get needs the name of an option as its last word\n"),
        ("config showrecurse Idle_Time", 64, "showrecurse takes only scopes"),
        ("config eval --peer", 64, "--peer needs an address\n"),
        ("config eval --peer nobody Idle_Time", 64, "--peer: expected an address, found 'nobody'\n"),
        (
            "config eval --local :99 Idle_Time",
            64,
            "--local: no Listen accepts :99; Listens: 127.0.0.1:0\n",
        ),
    ],
)
def test_an_invalid_command_is_an_error(server: DaemonServer, command: str, status: int, expected: str) -> None:
    result = server.console(command)
    assert (result.status, result.out) == (status, "")
    assert result.err.startswith(expected)
    assert json.loads(server.console("--json", command).out)["status"] == status


def test_show_inbound_lists_each_session(server: DaemonServer) -> None:
    port = server.port(LISTEN)
    with smtplib.SMTP("127.0.0.1", port, "me.example.org", 30) as plain, smtplib.SMTP("127.0.0.1", port) as tls:
        plain.ehlo()
        plain.mail("a@example.org")
        tls._host = "localhost"  # type: ignore[attr-defined]  # the name in the certificate
        tls.starttls(context=ssl.create_default_context(cadata=server.ca))
        tls.ehlo()
        one, two = sorted(server.ask("show inbound"), key=lambda row: str(row["id"]))
        assert one["peer"] == f"127.0.0.1:{plain.sock.getsockname()[1]}"  # type: ignore[union-attr]
        assert (one["listener"], one["tls"], one["state"], one["messages"]) == (LISTEN, None, "mail", 0)
        assert (two["state"], two["messages"], two["outdated"]) == ("ready", 0, False)
        assert two["tls"]["protocol"] == "TLSv1.3"
        assert two["tls"]["verified"] is False
        lines = server.console("show inbound").out.splitlines()
        assert len(lines) == 4
        assert lines[0].split() == ["ID", "PEER", "LISTEN", "AGE", "TLS", "CIPHER", "VERIFIED", "STATE", "MESSAGES"]
        assert any("TLSv1.3" in line and line.endswith("0") for line in lines)
        (context,) = server.ask("tls show cache")["contexts"]
        assert context["sessions"] == 1


def test_tls_show_displays_the_certificates_in_force(server: DaemonServer) -> None:
    running = server.run("tls", "show", "--running", "--control", server.control)
    assert running.status == 0
    for part in ("  generation  1\n", "  sessions    0\n", "dns:localhost", "  TLSv1.3     TLS_AES_256_GCM_SHA384"):
        assert part in running.out
    (context,) = server.ask("tls show cache")["contexts"]
    (certificate,) = context["certificates"]
    assert certificate["file"] == f"{server.folder}/server.pem"
    assert (certificate["subject"], certificate["names"]) == ("CN=localhost", ["dns:localhost"])
    assert context["used_by"] == [f'Listen "{LISTEN}"', f'Listen "{LISTEN}" Peer "10.0.0.0/8"']
    assert context["in_force"] is True
    assert "TLS_AES_256_GCM_SHA384" in context["ciphers"]["TLSv1.3"]


def test_flush_reopens_good_files_and_reports_bad_ones(tmp_path: Path) -> None:
    from triosmtp.testing import Authority  # noqa: PLC0415

    with daemon(tmp_path, f'Listen "{LISTEN}" {{ }}', "TLS_Watch = false") as server:
        assert "The files are not watched (TLS_Watch = false)" in server.console("tls show cache").out
        (tmp_path / "server.pem").write_text("junk")
        bad = server.console("tls flush cache")
        assert bad.status == 78
        assert bad.err.startswith(f'NOT loaded: TLS_Certificate "{tmp_path}/server.pem": ')
        failed = server.console("config reload")
        assert failed.status == 78
        assert f'error: TLS_Certificate: "{tmp_path}/server.pem": ' in failed.err
        shown = server.console("tls show cache").out
        assert "dns:localhost" in shown
        assert f"NOT loaded since {time.strftime('%Y-', time.gmtime())}" in shown
        authority = Authority.create()
        authority.issue("localhost", dns=["localhost", "new.example"]).write(tmp_path, "server")
        assert server.console("tls flush cache").out == "TLS contexts reloaded: 1\n"
        after = server.ask("tls show cache")
        assert (after["generation"], after["problems"]) == (2, [])
        assert after["contexts"][0]["certificates"][0]["names"] == ["dns:localhost", "dns:new.example"]
        assert server.log.count("certificate-reload-failed") == 1
        assert server.log.count("certificates-reloaded") == 1
