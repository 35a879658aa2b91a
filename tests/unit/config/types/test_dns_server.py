"""The addresses of DNS_Servers."""

import pytest

import triosmtp
from triosmtp.config.types.dns_server import DNS_SERVERS
from triosmtp.errors import ConfigError


def read(text: str) -> tuple[tuple[str, int], ...]:
    return triosmtp.parse_config(f'DNS_Servers = {text} ESMTP_Listener {{ Listen ":25" {{ }} }}').base.dns_servers


def test_the_port_is_53_unless_it_is_given() -> None:
    found = read('( "192.0.2.53" "192.0.2.53:5353" "2001:db8::53" "[2001:DB8::53]" "[2001:db8::53]:5353" )')
    assert found == (
        ("192.0.2.53", 53), ("192.0.2.53", 5353), ("2001:db8::53", 53), ("2001:db8::53", 53), ("2001:db8::53", 5353),
    )  # fmt: skip
    assert read(DNS_SERVERS.write(found)) == found


@pytest.mark.parametrize("text", ["", "dns.example", "192.0.2.53:", "192.0.2.53:0", "192.0.2.53:x", "[2001:db8::53]x"])
def test_what_is_no_address_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match="expected an address"):
        read(f'"{text}"')
