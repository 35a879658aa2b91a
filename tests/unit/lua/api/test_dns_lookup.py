"""DNS of scripts, with a server on the loopback interface."""

import pytest
from dns_server import dns_server

from triosmtp.dns_client import DNSError
from triosmtp.lua.api.dns_lookup import DNSLookups

RECORDS = {("host.example", "A"): ["192.0.2.1"], ("1.2.0.192.in-addr.arpa", "PTR"): ["host.example."]}


@pytest.mark.parametrize(
    ("name", "kind", "found"),
    [
        ("HOST.example.", "A", "192.0.2.1"),
        ("1.2.0.192.in-addr.arpa", "PTR", "host.example"),
        ("192.0.2.1", "PTR", "host.example"),
    ],
)
async def test_the_server_that_a_script_names_is_asked(name: str, kind: str, found: str) -> None:
    async with dns_server(RECORDS) as server:
        assert [each.text for each in await DNSLookups().look_up(name, kind, server.text)] == [found]


async def test_a_server_has_a_cache() -> None:
    lookups = DNSLookups()
    async with dns_server(RECORDS) as server:
        for _ in range(3):
            await lookups.look_up("host.example", "A", server.text)
    assert server.asked == {("host.example", "A"): 1}


async def test_dns_servers_are_asked_if_a_script_names_none() -> None:
    async with dns_server(RECORDS) as server:
        lookups = DNSLookups([server.address])
        assert [each.text for each in await lookups.look_up("host.example", "A")] == ["192.0.2.1"]
        assert lookups.with_servers([server.address]) is lookups
        assert lookups.with_servers([("127.0.0.1", 1)]) is not lookups


@pytest.mark.parametrize("server", ["name.example", "127.0.0.1:x", "::1:x"])
async def test_a_server_that_is_no_address_is_a_failure(server: str) -> None:
    with pytest.raises(DNSError) as caught:
        await DNSLookups().look_up("host.example", "A", server)
    assert caught.value.code == "FORMERR"
