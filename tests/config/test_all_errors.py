"""No error hides another: whatever does not depend on the first one is told in the same run."""

from pathlib import Path

import pytest

import triosmtp
from triosmtp.cli import main
from triosmtp.errors import ConfigError
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
    """The starts of :data:`TOLD` that stand in ``text``."""
    return [each for each in TOLD if f"t.conf:{each.format(folder)}" in text]


def test_check_tells_all_that_cannot_be_had(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-c", str(conf)]) == 78
    assert told(capsys.readouterr().err, conf.parent) == list(TOLD)


async def test_a_start_tells_all_that_cannot_be_had(conf: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        await triosmtp.serve(triosmtp.load_config(conf))
    assert told(str(caught.value), conf.parent) == list(TOLD)


def test_tls_check_tells_all_of_tls(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tls", "check", "-c", str(conf)]) == 1
    assert told(capsys.readouterr().err, conf.parent) == [each for each in TOLD if ": TLS_" in each]


def test_what_depends_on_an_error_is_not_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
