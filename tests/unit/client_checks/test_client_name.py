"""The name of a client: only one that leads back to its address is its own."""

from ipaddress import ip_address

import pytest
from dns_server import Records, dns_server

from triosmtp.client_checks.client_name import ClientName, find_client_name
from triosmtp.dns_client import DNSResolver

RECORDS: Records = {
    ("1.2.0.192.in-addr.arpa", "PTR"): ["Mail.Example.org."],
    ("mail.example.org", "A"): ["192.0.2.9", "192.0.2.1"],
    ("2.2.0.192.in-addr.arpa", "PTR"): ["mail.example.org."],
    ("3.2.0.192.in-addr.arpa", "PTR"): ["gone.example.org."],
    ("4.2.0.192.in-addr.arpa", "PTR"): ['a\\"b\\032c.example.org.'],
    ("5.2.0.192.in-addr.arpa", "PTR"): ["only6.example.org."],
    ("only6.example.org", "AAAA"): ["2001:db8::1"],
    ("1." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa", "PTR"): ["only6.example.org."],
}


@pytest.mark.parametrize(
    ("address", "name", "reverse"),
    [
        ("192.0.2.1", "mail.example.org", "mail.example.org"),
        ("192.0.2.2", "unknown", "mail.example.org"),
        ("192.0.2.3", "unknown", "gone.example.org"),
        ("192.0.2.4", "unknown", "unknown"),
        ("192.0.2.5", "unknown", "only6.example.org"),
        ("192.0.2.6", "unknown", "unknown"),
        ("2001:db8::1", "only6.example.org", "only6.example.org"),
    ],
)
async def test_a_name_is_confirmed_by_its_address(address: str, name: str, reverse: str) -> None:
    async with dns_server(RECORDS) as server:
        resolver = DNSResolver([server.address])
        assert await find_client_name(resolver, ip_address(address), 5) == ClientName(name, reverse)


async def test_what_has_no_answer_in_time_is_unknown() -> None:
    async with dns_server(RECORDS) as server:
        resolver = DNSResolver([server.address])
        server.silent.add("mail.example.org")
        assert await find_client_name(resolver, ip_address("192.0.2.1"), 0.2) == ClientName(reverse="mail.example.org")
        server.silent.add("1.2.0.192.in-addr.arpa")
        server.silent.clear()
        server.failing.add("mail.example.org")
        found = await find_client_name(DNSResolver([server.address]), ip_address("192.0.2.1"), 5)
        assert found == ClientName(reverse="mail.example.org")
