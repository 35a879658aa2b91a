"""Lists in the DNS: which answers are listings, and what they weigh together."""

from ipaddress import ip_address

from dns_server import Records, dns_server

import triosmtp
from triosmtp.client_checks.dnsbl import Listings, find_listings, shown_domain
from triosmtp.config.types.dnsbl_site import DNSBLSite
from triosmtp.dns_client import DNSResolver


def sites(*texts: str) -> tuple[DNSBLSite, ...]:
    written = " ".join(f'"{text}"' for text in texts)
    config = triosmtp.parse_config(f'DNSBL_Sites = ( {written} ) ESMTP_Listener {{ Listen ":25" {{ }} }}')
    return config.base.dnsbl_sites


RECORDS: Records = {
    ("1.2.0.192.zen.example", "A"): ["127.0.0.2", "127.0.0.11"],
    ("1.2.0.192.good.example", "A"): ["127.0.9.1"],
    ("2.2.0.192.zen.example", "A"): ["127.255.255.254"],
    ("3.2.0.192.zen.example", "A"): ["192.0.2.80"],
    ("1." + "0." * 23 + "8.b.d.0.1.0.0.2.zen.example", "A"): ["127.0.0.4"],
}


async def score(address: str, *texts: str) -> int:
    async with dns_server(RECORDS) as server:
        resolver = DNSResolver([server.address])
        return (await find_listings(resolver, sites(*texts), ip_address(address), 5)).score


async def test_the_weights_of_the_answers_that_count_are_added() -> None:
    assert await score("192.0.2.1", "zen.example") == 1
    assert await score("192.0.2.1", "zen.example=127.0.0.2*3", "zen.example=127.0.0.[10..12]*4") == 7
    assert await score("192.0.2.1", "zen.example=127.0.0.[3;5..9]*3") == 0
    assert await score("192.0.2.1", "zen.example*3", "good.example=127.0.[0..255].[1..3]*-5") == -2
    assert await score("192.0.2.1", "other.example") == 0
    assert await score("2001:db8::1", "zen.example=127.0.0.4*2") == 2


async def test_errors_of_a_list_and_answers_outside_of_127_8_are_no_listings() -> None:
    assert await score("192.0.2.2", "zen.example", "zen.example=127.255.255.254*9") == 0
    assert await score("192.0.2.3", "zen.example", "zen.example=192.0.2.80*9") == 0


async def test_a_list_that_does_not_answer_lists_nobody_and_each_is_asked_once() -> None:
    async with dns_server(RECORDS) as server:
        resolver = DNSResolver([server.address])
        server.silent.add("1.2.0.192.silent.example")
        server.failing.add("1.2.0.192.failing.example")
        wanted = sites("silent.example", "failing.example", "zen.example=127.0.0.2", "zen.example=127.0.0.11*2")
        found = await find_listings(resolver, wanted, ip_address("192.0.2.1"), 0.3)
        assert found == Listings(wanted[2:], 3)
        assert server.asked["1.2.0.192.zen.example", "A"] == 1


def test_the_key_of_a_customer_is_not_shown() -> None:
    (site,) = sites("q1w2e3r4t5z6u7i8o9p0.zen.dq.example")
    assert shown_domain(site) == "zen.dq.example"
