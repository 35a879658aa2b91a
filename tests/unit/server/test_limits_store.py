"""Errors of Limits_Store and Mock_Credentials_File, as `check` prints them."""

import sys
from pathlib import Path

import pytest

import triosmtp
from triosmtp.commands.check_command import check_config
from triosmtp.errors import ConfigError, Severity


def config(text: str) -> triosmtp.Config:
    return triosmtp.parse_config(
        f'Node_Name = "mx1"\n{text}\nRelay_Domains = ( "example.com" )\nESMTP_Listener {{ Listen "127.0.0.1:0" {{ }} }}'
    )


def errors(text: str) -> list[str]:
    try:
        return [each.message for each in check_config(config(text)) if each.severity is Severity.ERROR]
    except ConfigError as error:
        return [each.message for each in error.problems]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coredis.retry", None)
    assert errors('Limits_Store = "redis://127.0.0.1"') == ['Limits_Store needs coredis: pip install "triosmtp[redis]"']


def test_the_node_needs_a_name() -> None:
    text = 'Limits_Store = "redis://127.0.0.1" ESMTP_Listener { Listen "127.0.0.1:0" { } }'
    found = [each.message for each in check_config(triosmtp.parse_config(text)) if each.severity is Severity.ERROR]
    assert found == ["Limits_Store needs a Node_Name"]


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (message,) = errors(f'Limits_Store = "redis://127.0.0.1" Limits_Store_Password_File = "{tmp_path}/empty"')
    assert "expected one secret, found 0" in message
    (message,) = errors(f'Mock_Credentials_File = "{tmp_path}/none"')
    assert "No such file" in message
