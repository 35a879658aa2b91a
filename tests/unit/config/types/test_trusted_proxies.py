"""The type of Proxy_Protocol."""

from ipaddress import ip_network

import pytest
from config_text import option_error, read_option

from triosmtp.config.types.trusted_proxies import TrustedProxies


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
    assert told in option_error(name, text)
