"""The delivery that the options of an HTTP target describe."""

from pathlib import Path

import pytest

from triosmtp.config import parse_config
from triosmtp.delivery import TargetContext, TargetHealth
from triosmtp.errors import ConfigError
from triosmtp.http_delivery.http_delivery import HTTPTarget
from triosmtp.http_delivery.http_factory import make_http_delivery

CONF = """
Deliver_To = "app"
Delivery "app" {{ Deliver_To = ( "{scheme}://localhost:1/a" "{scheme}://localhost/b?c=d" ) {options} }}
ESMTP_Listener {{ Listen ":25" {{ }} }}
"""


def made(scheme: str, options: str = "", hostname: str = "mx1.example.com", node: str = "") -> HTTPTarget:
    config = parse_config(CONF.format(scheme=scheme, options=options))
    delivery = make_http_delivery(config.target("app"), TargetContext(hostname, TargetHealth("app"), node=node))
    return delivery._target


def test_options_become_the_target(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
    target = made("https", f'Body_Timeout = 7 TLS_Name = "app.example" Secret_File = "{tmp_path}/secret"')
    assert (target.name, target.node, target.seconds, target.tls_name) == ("app", "mx1-example-com", 7, "app.example")
    assert target.urls == ("https://localhost:1/a", "https://localhost:443/b?c=d")
    assert target.secrets is not None


def test_defaults_and_names_of_hosts_that_are_no_names_of_nodes() -> None:
    target = made("http", hostname="m\u00fcller." + "x" * 40)
    assert target.urls == ("http://localhost:1/a", "http://localhost:80/b?c=d")
    assert (target.secrets, target.tls_name, target.seconds) == (None, None, 300)
    assert target.node == "m-ller-" + "x" * 25
    assert made("http", node="edge-7").node == "edge-7"


def test_tls_options_reach_the_client(tmp_path: Path) -> None:
    options = 'TLS_Verify = ca TLS_Protocols = "+TLSv1.2" TLS_Ciphers = "ECDHE+AES256"'
    config = parse_config(CONF.format(scheme="https", options=f'{options} TLS_Fingerprints = "sha256:{"0" * 64}"'))
    delivery = make_http_delivery(config.target("app"), TargetContext("mx", TargetHealth("app"), node=""))
    files = delivery._pool._make_client()._files
    assert files is not None
    assert (files.verify, files.protocols, files.ciphers) == ("ca", ("TLSv1.2",), "ECDHE+AES256")
    assert files.fingerprints == (("sha256", "0" * 64),)


def test_ciphers_that_openssl_does_not_have_are_an_error() -> None:
    with pytest.raises(ConfigError, match='TLS_Ciphers: OpenSSL has no cipher of "NONSENSE"'):
        made("https", 'TLS_Ciphers = "NONSENSE"')
