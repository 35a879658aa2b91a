"""Look-ups: what is found, what is cached, what has no answer, and several servers."""

import subprocess
import sys

import pytest
from dns_server import dns_server

from triosmtp.dns_client import DNSError, DNSResolver, Record, import_dnspython

RECORDS = {
    ("host.example", "A"): ["192.0.2.1", "192.0.2.2"],
    ("host.example", "AAAA"): ["2001:db8::1"],
    ("host.example", "MX"): ["20 second.example.", "10 first.example."],
    ("host.example", "TXT"): ['"v=spf1 " "-all"', '"other\\255"'],
    ("host.example", "NS"): ["ns.example."],
    ("1.2.0.192.in-addr.arpa", "PTR"): ["host.example."],
}


@pytest.mark.parametrize(
    ("name", "kind", "found"),
    [
        ("host.example", "A", ["192.0.2.1", "192.0.2.2"]),
        ("HOST.example.", "AAAA", ["2001:db8::1"]),
        ("host.example", "TXT", ["other\udcff", "v=spf1 -all"]),
        ("host.example", "NS", ["ns.example"]),
        ("1.2.0.192.in-addr.arpa", "PTR", ["host.example"]),
    ],
)
async def test_records_are_returned(name: str, kind: str, found: list[str]) -> None:
    async with dns_server(RECORDS) as server:
        assert sorted(each.text for each in await DNSResolver([server.address]).look_up(name, kind, 5)) == found


async def test_records_with_a_preference_come_in_its_order() -> None:
    async with dns_server(RECORDS) as server:
        records = await DNSResolver([server.address]).look_up("host.example", "MX", 5)
    assert records == [Record("first.example", 10), Record("second.example", 20)]


async def test_answers_are_cached_those_without_records_too() -> None:
    async with dns_server(RECORDS) as server:
        resolver = DNSResolver([server.address])
        for _ in range(3):
            await resolver.look_up("host.example", "A", 5)
            with pytest.raises(DNSError):
                await resolver.look_up("none.example", "A", 5)
        assert server.asked == {("host.example", "A"): 1, ("none.example", "A"): 1}


async def test_a_time_to_live_of_zero_is_not_cached() -> None:
    async with dns_server({("a.example", "A"): ["192.0.2.1"]}, ttl=0) as server:
        resolver = DNSResolver([server.address])
        for _ in range(2):
            await resolver.look_up("a.example", "A", 5)
        assert server.asked["a.example", "A"] == 2


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("none.example", "A", "NXDOMAIN"),
        ("1.2.0.192.in-addr.arpa", "A", "NODATA"),
        ("failing.example", "A", "SERVFAIL"),
        ("silent.example", "A", "TIMEOUT"),
        ("a..example", "A", "FORMERR"),
        ("x" * 64 + ".example", "A", "FORMERR"),
    ],
)
async def test_an_error_has_the_code(name: str, kind: str, code: str) -> None:
    async with dns_server(RECORDS) as server:
        server.silent.add("silent.example")
        server.failing.add("failing.example")
        with pytest.raises(DNSError) as caught:
            await DNSResolver([server.address]).look_up(name, kind, 0.2 if code == "TIMEOUT" else 5)
    assert caught.value.code == code
    assert str(caught.value) == f"{name} {kind}: {code}"


async def test_the_next_server_is_asked_if_one_fails() -> None:
    async with dns_server({}) as bad, dns_server({("a.example", "A"): ["192.0.2.1"]}) as good:
        bad.failing.add("a.example")
        resolver = DNSResolver([bad.address, good.address])
        assert await resolver.look_up("a.example", "A", 5) == [Record("192.0.2.1")]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import_dnspython()
    monkeypatch.setitem(sys.modules, "dns", None)
    with pytest.raises(ImportError, match=r'^needs dnspython: pip install "triosmtp\[dns\]"$'):
        import_dnspython()


def test_the_import_at_the_start_is_all_that_a_look_up_needs() -> None:
    """A server that has changed its user may not be able to read more."""
    code = """
import sys, trio
from triosmtp.dns_client import DNSError, DNSResolver, import_dnspython
import_dnspython()
before = set(sys.modules)
async def look_up():
    try:
        await DNSResolver([("127.0.0.1", 9)]).look_up("host.example", "A", 5)
    except DNSError:
        pass
trio.run(look_up)
print(sorted(name for name in set(sys.modules) - before if name.startswith("dns")))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
