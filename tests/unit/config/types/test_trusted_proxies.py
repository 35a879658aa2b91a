"""The type of Proxy_Protocol."""

from ipaddress import ip_network

import pytest
from config_text import read_option

from triosmtp.config import OPTIONS
from triosmtp.config.types.trusted_proxies import TrustedProxies
from triosmtp.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("Proxy_Protocol", "false", TrustedProxies()),
        ("Proxy_Protocol", '"OFF"', TrustedProxies()),
        ("Proxy_Protocol", "( )", TrustedProxies()),
        ("Proxy_Protocol", "( 10.0.0.0/8 unix )", TrustedProxies((ip_network("10.0.0.0/8"),), unix=True)),
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
        ("Proxy_Protocol", "true", '"true" would let every client pretend to be another one: list the proxies instead'),
        ("Proxy_Protocol", '"on"', '"on" would let every client pretend to be another one'),
        ("Proxy_Protocol", "1", '"1" would let every client'),
        ("Proxy_Protocol", "( 10.0.0.1 yes )", '"yes" would let every client'),
        ("Proxy_Protocol", "( no )", '"no" stands alone, not in a list'),
    ],
)
def test_bad_values(name: str, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_option(name, text)
    (problem,) = caught.value.problems
    assert told in problem.message
    assert OPTIONS[name.lower()].name in problem.message
