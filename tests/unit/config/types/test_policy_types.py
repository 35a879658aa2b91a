"""The types of options of policy."""

import pytest
from config_text import read_option

from triosmtp.config import OPTIONS
from triosmtp.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("Policy", '( "python:a.b:C" "python:a:B.c" )', ("python:a.b:C", "python:a:B.c")),
    ],
)  # fmt: skip
def test_values(name: str, text: str, value: object) -> None:
    if name == "SMTP_Extensions" and "starttls" in text:
        text += " TLS_Certificate = /cert.pem"
    if text == "Require":
        text += " TLS_Client_CA = /ca.pem"
    assert read_option(name, text) == value


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("Policy", "python:a", "expected python:package.module:Name"),
        ("Policy", "'python:a-b:C'", "expected python:package.module:Name"),
        ("Policy", "lua:a:b", "expected python:package.module:Name"),
    ],
)
def test_bad_values(name: str, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_option(name, text)
    (problem,) = caught.value.problems
    assert told in problem.message
    assert OPTIONS[name.lower()].name in problem.message
