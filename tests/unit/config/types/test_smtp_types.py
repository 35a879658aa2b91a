"""The types of options of the SMTP dialogue: extensions, the banner, the text of reply 421."""

import pytest
from config_text import config_errors, option_error, read_option


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "Reconfig_Message = '5.3.2 x'",
            "1:20: error: Reconfig_Message: expected an enhanced code of the class of 421",
        ),
        (
            "Reconfig_Message = 'später'",
            "1:20: error: Reconfig_Message: expected a line of at most 480 ASCII characters",
        ),
    ],
)
def test_each_error_has_its_position_and_text(text: str, line: str) -> None:
    others = f"\n{config_errors(text)}".replace(
        "\ne.conf:1:1: error: no Listen is enabled: ", "\n"
    )  # which most lack, too
    assert f"\ne.conf:{line}" in others


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("SMTP_Extensions", "starttls", ("STARTTLS",)),
        ("SMTP_Extensions", "( PIPELINING 8BITMIME SIZE SMTPUTF8 )", ("PIPELINING", "8BITMIME", "SIZE", "SMTPUTF8")),
        ("SMTP_Extensions", "( )", ()),
        ("Static_Banner", '"220 mx ESMTP"', "220 mx ESMTP"),
    ],
)  # fmt: skip
def test_values(name: str, text: str, value: object) -> None:
    if name == "SMTP_Extensions" and "starttls" in text:
        text += " TLS_Certificate = /cert.pem"
    assert read_option(name, text) == value


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("SMTP_Extensions", "( STARTLS )", "did you mean STARTTLS?"),
        ("SMTP_Extensions", "( '' )", "expected an SMTP extension"),
        ("Static_Banner", "mx", "holds its own 220"),
        ("Static_Banner", "'220 " + "x" * 481 + "'", "at most 484"),
    ],
)
def test_bad_values(name: str, text: str, told: str) -> None:
    assert told in option_error(name, text)
