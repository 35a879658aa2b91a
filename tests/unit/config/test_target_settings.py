"""The settings of a target: how TLS is used by default."""

import pytest

from triosmtp.config import parse_config
from triosmtp.config.types import target_address
from triosmtp.config.types.target_url import URL_SCHEMES


@pytest.mark.parametrize(
    ("address", "options", "mode", "name"),
    [
        ("smtp://mx.example.org", "", "required", "mx.example.org"),
        ("smtp://mx.example.org", "TLS = ifavailable TLS_Name = b.example", "ifavailable", "b.example"),
        ("smtp://127.0.0.1", "", "no", "127.0.0.1"),
        ("smtp://127.0.0.1", "TLS = required", "required", "127.0.0.1"),
        ("smtps://127.0.0.1", "", "required", "127.0.0.1"),
        ("https://localhost/", "", "required", "localhost"),
        ("lmtp:/run/lmtp", "", "no", ""),
    ],
)
def test_tls_is_required_unless_the_target_is_local_or_the_scope_says_otherwise(
    address: str, options: str, mode: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_address, "SCHEMES", {**target_address.SCHEMES, **URL_SCHEMES})
    config = parse_config(
        f'Deliver_To = d Delivery d {{ Deliver_To = "{address}" {options} }} ESMTP_Listener {{ Listen ":25" {{ }} }}'
    )
    target = config.target("d")
    assert (target.tls_mode(target.addresses[0]), target.tls_name(target.addresses[0])) == (mode, name)
    assert (target.name, target.is_short, target.scheme) == ("d", False, address.partition(":")[0])
    short = config.target(address)
    assert short.is_short
    if not options:
        assert short.tls_mode(short.addresses[0]) == mode
