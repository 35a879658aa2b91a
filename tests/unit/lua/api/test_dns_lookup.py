"""DNS of scripts, with a server on the loopback interface."""

import pytest
from dns_responder import dns_responder

from triosmtp.lua.api.dns_lookup import DNSError, DNSLookups

RECORDS = {
    ("host.example", "A"): ["192.0.2.1", "192.0.2.2"],
    ("host.example", "AAAA"): ["2001:db8::1"],
    ("host.example", "MX"): ["20 second.example.", "10 first.example."],
    ("host.example", "TXT"): ['"v=spf1 " "-all"', '"other"'],
    ("host.example", "NS"): ["ns.example."],
    ("1.2.0.192.in-addr.arpa", "PTR"): ["host.example."],
}


@pytest.mark.parametrize(
    ("name", "kind", "found"),
    [
        ("host.example", "A", [b"192.0.2.1", b"192.0.2.2"]),
        ("HOST.example.", "AAAA", [b"2001:db8::1"]),
        ("host.example", "MX", [b"first.example", b"second.example"]),
        ("host.example", "TXT", [b"v=spf1 -all", b"other"]),
        ("host.example", "NS", [b"ns.example"]),
        ("1.2.0.192.in-addr.arpa", "PTR", [b"host.example"]),
        ("192.0.2.1", "PTR", [b"host.example"]),
    ],
)
async def test_records_are_returned(name: str, kind: str, found: list[bytes]) -> None:
    async with dns_responder(RECORDS) as responder:
        assert sorted(each.text for each in await DNSLookups().look_up(name, kind, responder.server)) == sorted(found)


async def test_records_with_a_preference_come_in_its_order() -> None:
    async with dns_responder(RECORDS) as responder:
        records = await DNSLookups().look_up("host.example", "MX", responder.server)
    assert [(each.preference, each.text) for each in records] == [(10, b"first.example"), (20, b"second.example")]


@pytest.mark.parametrize(
    ("name", "kind", "error"),
    [
        ("none.example", "A", "NXDOMAIN"),
        ("1.2.0.192.in-addr.arpa", "A", "NODATA"),
        ("fails.example", "A", "SERVFAIL"),
        ("a..example", "A", "FORMERR"),
        ("x" * 64 + ".example", "A", "FORMERR"),
    ],
)
async def test_a_failure_has_the_name_of_its_code(name: str, kind: str, error: str) -> None:
    async with dns_responder(RECORDS) as responder:
        with pytest.raises(DNSError) as caught:
            await DNSLookups().look_up(name, kind, responder.server)
    assert str(caught.value) == error


async def test_answers_are_kept() -> None:
    lookups = DNSLookups()
    async with dns_responder(RECORDS) as responder:
        for _ in range(3):
            await lookups.look_up("host.example", "A", responder.server)
            with pytest.raises(DNSError):
                await lookups.look_up("none.example", "A", responder.server)
    assert responder.asked.count(("host.example", "A")) == 1


@pytest.mark.parametrize("server", ["name.example", "127.0.0.1:x", "::1:x"])
async def test_a_server_that_is_no_address_is_a_failure(server: str) -> None:
    with pytest.raises(DNSError, match="FORMERR"):
        await DNSLookups().look_up("host.example", "A", server)
