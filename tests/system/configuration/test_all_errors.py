"""No error hides another: errors that do not depend on the first one are reported in the same run."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import triosmtp
from triosmtp.cli import main
from triosmtp.daemon.process_startup import prepare_process
from triosmtp.errors import ConfigError, Severity
from triosmtp.testing import Authority

MISSING = """\
Deliver_To = "discard:"
Relay_Domains = ( "example.com" )
Policy = ( "python:no_such:A" "python:nor_this:B" )
AuthPlainParameters = [ uri = "file:///nowhere/plain" ]
AuthCramMD5Parameters = [ uri = "file:///nowhere/cram" ]
TLS_Certificate = ( "rsa.pem" "ecdsa.pem" )
TLS_Key = ( "rsa.key" "ecdsa.key" )
TLS_Client_CA = "ca.pem"
TLS_Client_CRL = "crl.pem"
TLS_Ciphers = "bogus"
TLS_DHParams_File = "dh.pem"
ESMTP_Listener {
  SMTP_Extensions = ( "STARTTLS" "AUTH PLAIN CRAM-MD5" )
  Listen "127.0.0.1:0" {
    Server_Name "a.example" { TLS_Certificate = "a.pem" }
    Server_Name "b.example" { TLS_Certificate = "b.pem" }
  }
}
Policy_Listener { Token_File = "token" Listen "127.0.0.1:0" { } }
"""
TOLD = (
    '3:10: error: Policy: \'python:no_such:A\'', '3:10: error: Policy: \'python:nor_this:B\'',
    "4:23: error: AuthPlainParameters: ", "5:25: error: AuthCramMD5Parameters: ",
    '6:19: error: TLS_Certificate: "{0}/rsa.pem"', '6:19: error: TLS_Certificate: "{0}/ecdsa.pem"',
    '7:11: error: TLS_Key: "{0}/rsa.key"', '7:11: error: TLS_Key: "{0}/ecdsa.key"',
    '8:17: error: TLS_Client_CA: "{0}/ca.pem"', '9:18: error: TLS_Client_CRL: "{0}/crl.pem"',
    '10:15: error: TLS_Ciphers: "bogus" selects nothing',
    '11:21: error: TLS_DHParams_File: "{0}/dh.pem"',
    '15:49: error: TLS_Certificate: "{0}/a.pem"', '16:49: error: TLS_Certificate: "{0}/b.pem"',
    '19:32: error: Token_File: {0}/token',
)  # fmt: skip


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    (tmp_path / "t.conf").write_text(MISSING)
    return tmp_path / "t.conf"


def told(text: str, folder: Path) -> list[str]:
    """Return the starts of :data:`TOLD` that stand in ``text``."""
    return [each for each in TOLD if f"t.conf:{each.format(folder)}" in text]


def test_check_reports_everything_that_cannot_be_opened(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-c", str(conf)]) == 78
    assert told(capsys.readouterr().err, conf.parent) == list(TOLD)


async def test_a_start_reports_everything_that_cannot_be_opened(conf: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        await triosmtp.serve(triosmtp.load_config(conf))
    assert told(str(caught.value), conf.parent) == list(TOLD)


def test_tls_check_reports_all_problems_of_tls(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tls", "check", "-c", str(conf)]) == 1
    assert told(capsys.readouterr().err, conf.parent) == [each for each in TOLD if ": TLS_" in each]


def test_checks_that_depend_on_an_error_are_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Authority.create().issue("mx.example.org", dns=["mx.example.org"]).write(tmp_path, "mx")
    path = tmp_path / "t.conf"
    path.write_text(
        'Deliver_To = "discard:" Relay_Domains = ( "example.com" )\n'
        'TLS_Certificate = "mx.pem" TLS_Key = "nope.key"\n'
        'ESMTP_Listener { SMTP_Extensions = STARTTLS Listen "127.0.0.1:0" { } }\n'
    )
    assert main(["check", "-c", str(path)]) == 78
    (line, *_) = errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(errors) == 1
    assert 'TLS_Key: "' in line


def errors(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        triosmtp.parse_config(text)
    return [
        f"{each.position.line}: {each.message}"
        for each in caught.value.problems
        if each.severity is Severity.ERROR and each.position is not None
    ]


def test_a_bad_value_hides_no_other_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Authority.create().issue("mx.example.org", dns=["mx.example.org"]).write(tmp_path, "mx")
    path = tmp_path / "t.conf"
    path.write_text("""\
TLS_Protocols = "+TLSv9"
TLS_Ciphers = "bogus"
Policy = ( "python:no_such:A" )
Idle_Time = 5m
TLS_Certificate = "mx.pem" TLS_Key = "mx.key"
Deliver_To = "mbox:/x"
Pathway = "nowhere"
ESMTP_Listener {
  Listen "127.0.0.1:0" { TLS_Verify_Mode = require }
  Listen "127.0.0.1:26" { } Listen "127.0.0.1:26" { Idle_Tme = 3 } Listen "0.0.0.0:27" { } Listen ":27" { }
}
Log "mainlog" { Path = "/nowhere/at/all" }
Policy_Listener { Listen "127.0.0.1:28" { } }
""")
    assert main(["check", "-c", str(path)]) == 78
    told = capsys.readouterr().err
    for line in (
        "1:17: error: TLS_Protocols: expected ALL", '2:15: error: TLS_Ciphers: "bogus" selects nothing',
        "3:10: error: Policy: 'python:no_such:A'", "4:13: error: Idle_Time: ", "6:14: error: Deliver_To: ",
        '7:11: error: there is no Pathway "nowhere"', "9:44: error: TLS_Verify_Mode: require needs",
        "10:53: error: unknown option Idle_Tme", 'Listen ":27" and Listen "0.0.0.0:27"',
        '12:5: error: Log "mainlog": /nowhere/at/all', 'Listen "127.0.0.1:28" needs a Token_File',
    ):  # fmt: skip
        assert line in told, line
    assert "No Relay_Domains" not in told  # surprises come when it could be served
    assert "Configuration valid" not in told


LISTEN = 'ESMTP_Listener { SMTP_Extensions = STARTTLS Listen ":25" { %s } }'


@pytest.mark.parametrize(
    ("text", "first"),
    [
        (f"TLS_Certificate = ( ( ) )\n{LISTEN % ''}", "1: TLS_Certificate: "),
        (f'TLS_Certificate = "x\n{LISTEN % ""}', "1: this string does not end on its line"),
        (f"TLS_Certifcate = x\n{LISTEN % ''}", "1: unknown option TLS_Certifcate"),
        (f"SMTP_Extensions = ( STARTTLS ) TLS_Certificate\n{LISTEN % ''}", "1: expected"),
        (f"include 'nowhere'\n{LISTEN % ''}", "1: cannot include"),
        (f"include 'nowhere'\n{LISTEN % 'TLS_Verify_Mode = require'}", "1: cannot include"),
        ("include 'nowhere'", "1: cannot include"),
        ("ESMTP_Listener { Listen '25' { } }", "1: Listen: "),
        ("ESMTP_Listener { Listen { } }", "1: expected an instance"),
        ("ESMTP_Listener { Listen ':25' { Enable = maybe } Enable = perhaps }", "1: Enable: "),
        (f"TLS_Client_CA = ( ) {LISTEN % 'TLS_Verify_Mode = require TLS_Certificate = x'}", "1: TLS_Client_CA: "),
        (f"Pathway = 'p' Pathway 'p {{ }}\n{LISTEN % 'TLS_Certificate = x'}", "1: this string"),
        ("Log 'mainlog' { Path = ( ) } ESMTP_Listener { Listen ':25' { } }", "1: Path: "),
        (
            "ESMTP_Listener { Listen ':25' { } } Policy_Listener { Token_File = ( ) Listen '127.0.0.1:26' { } }",
            "1: Token_File: ",
        ),
        (
            f"{LISTEN % 'TLS_Certificate = x Server_Name a.example { TLS_Certificate = ( ( ) ) }'}",
            "1: TLS_Certificate: ",
        ),
        (f"TLS_Key = ( ) TLS_Certificate = ( a b ) TLS_Key = ( ( ) ( ) ( ) ) {LISTEN % ''}", "1: TLS_Key: "),
    ],
)
def test_an_error_that_only_follows_from_another_is_not_reported(text: str, first: str) -> None:
    found = errors(text)
    assert found[0].startswith(first), found
    assert not [each for each in found if "needs" in each or "no Listen" in each or "no Pathway" in each], found


BUSY = """\
Deliver_To = "discard:"
Policy = "python:no_such:A"
TLS_Certificate = "nope.pem"
Security { User = "nobody" }
ESMTP_Listener { SMTP_Extensions = STARTTLS Listen "127.0.0.1:%d" { } Listen "127.0.0.2:0" { } }
"""


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[triosmtp.Config]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield triosmtp.parse_config(BUSY % taken.getsockname()[1], folder=tmp_path)


async def test_a_start_reports_ports_too(busy: triosmtp.Config) -> None:
    with pytest.raises(ConfigError) as caught:
        await triosmtp.serve(busy)
    told = str(caught.value)
    for part in ("python:no_such:A", "nope.pem", "Address already in use"):
        assert part in told
    assert told.count("Address already in use") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone binds and reads for another user")
def test_a_start_as_root_reports_ports_and_files(busy: triosmtp.Config, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare_process(busy, tmp_path / "t.conf")
    told = str(caught.value)
    assert "nope.pem" in told
    assert "Address already in use" in told
