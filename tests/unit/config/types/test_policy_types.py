"""The types of options of policy and delivery."""

import pytest
from config_text import read_option

from triosmtp.config import OPTIONS
from triosmtp.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("Policy", '( "python:a.b:C" "python:a:B.c" )', ("python:a.b:C", "python:a:B.c")),
        ("Deliver_To", '"maildir:/var/mail"', "maildir:/var/mail"),
        ("Deliver_To", '"discard:"', "discard:"),
        ("Deliver_To", '"python:mail.store:Inbox.take"', "python:mail.store:Inbox.take"),
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
        ("Deliver_To", "discard", "expected maildir:/path, discard: or python:package.module:function"),
        ("Deliver_To", "discard:x", "expected maildir:/path, discard: or python:package.module:function"),
        ("Deliver_To", "maildir:", "expected maildir:/path, discard: or python:package.module:function"),
        ("Deliver_To", "python:store", "expected maildir:/path, discard: or python:package.module:function"),
        ("Deliver_To", "python:a-b:c", "expected maildir:/path, discard: or python:package.module:function"),
        ("Deliver_To", "pythn:a:c", "did you mean python:?"),
        ("Deliver_To", "lmtp:host", "expected maildir:/path, discard: or python:package.module:function"),
    ],
)
def test_bad_values(name: str, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_option(name, text)
    (problem,) = caught.value.problems
    assert told in problem.message
    assert OPTIONS[name.lower()].name in problem.message
