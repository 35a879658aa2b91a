"""Warnings about the files of Delivery scopes."""

from datetime import UTC, datetime
from pathlib import Path

from tls_peers import root

from triosmtp.config import parse_config
from triosmtp.daemon.config_warnings import config_warnings
from triosmtp.daemon.target_warnings import target_warnings

EXPIRED = datetime(2024, 1, 1, tzinfo=UTC)
CONF = """
Relay_Domains = ( "example.com" )
Deliver_To = "hop"
Delivery "hop" {{ Deliver_To = "smtp://hop.example:25" {options} }}
ESMTP_Listener {{ Listen ":25" {{ }} }}
"""


def test_files_that_others_can_read(tmp_path: Path) -> None:
    certificate, key = root().issue("mx.example.com").write(tmp_path, "client")
    password = tmp_path / "password"
    password.write_text("s3cret\n")
    password.chmod(0o644)
    key.chmod(0o644)
    options = f"""TLS_Certificate = "{certificate}" TLS_Key = "{key}"
Auth_User = "me" Auth_Password_File = "{password}" """
    config = parse_config(CONF.format(options=options))
    (found,) = [str(problem) for problem in target_warnings(config)]
    assert "holds a private key and can be read by every user" in found
    every = {str(problem) for problem in config_warnings(config)}
    assert found in every
    assert any("others can read or change it" in each for each in every)
    assert not any("s3cret" in each for each in every)
    password.chmod(0o600)
    key.chmod(0o600)
    assert target_warnings(config) == []


def test_a_certificate_that_has_expired(tmp_path: Path) -> None:
    certificate, key = root().issue("mx.example.com", not_after=EXPIRED).write(tmp_path, "client")
    options = f'TLS_Certificate = "{certificate}" TLS_Key = "{key}" TLS_CA = "{tmp_path}/ca.pem"'
    (tmp_path / "ca.pem").write_bytes(root().certificate_pem)
    (found,) = target_warnings(parse_config(CONF.format(options=options)))
    assert "expired" in found.message
    (tmp_path / "ca.pem").unlink()
    assert target_warnings(parse_config(CONF.format(options=options))) == [], "that is an error elsewhere"
