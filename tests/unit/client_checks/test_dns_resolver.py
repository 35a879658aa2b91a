"""Look-ups: what is cached, what has no answer, and several servers."""

import pytest
from dns_server import dns_server

from triosmtp.client_checks import dns_resolver
from triosmtp.client_checks.dns_resolver import DNSError, DNSResolver


async def test_answers_are_cached_those_without_records_too() -> None:
    async with dns_server({("a.example", "A"): ["192.0.2.1", "192.0.2.2"]}) as server:
        resolver = DNSResolver([server.address])
        for _ in range(3):
            assert sorted(await resolver.look_up("a.example", "A", 5)) == ["192.0.2.1", "192.0.2.2"]
        assert server.asked == {("a.example", "A"): 1}


async def test_a_time_to_live_of_zero_is_not_cached() -> None:
    async with dns_server({("a.example", "A"): ["192.0.2.1"]}, ttl=0) as server:
        resolver = DNSResolver([server.address])
        for _ in range(2):
            await resolver.look_up("a.example", "A", 5)
        assert server.asked["a.example", "A"] == 2


async def test_errors_say_whether_the_name_exists() -> None:
    async with dns_server({("a.example", "AAAA"): ["2001:db8::1"]}) as server:
        resolver = DNSResolver([server.address])
        server.silent.add("silent.example")
        server.failing.add("failing.example")
        for name, exists in (("a.example", False), ("none.example", False), ("failing.example", None)):
            with pytest.raises(DNSError) as caught:
                await resolver.look_up(name, "A", 5)
            assert caught.value.exists is exists, name
        for name in ("silent.example", "a" * 64 + ".example", "."):
            with pytest.raises(DNSError):
                await resolver.look_up(name, "A", 0.1)


async def test_the_next_server_is_asked_if_one_fails() -> None:
    async with dns_server({}) as bad, dns_server({("a.example", "A"): ["192.0.2.1"]}) as good:
        bad.failing.add("a.example")
        resolver = DNSResolver([bad.address, good.address])
        assert await resolver.look_up("a.example", "A", 5) == ["192.0.2.1"]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dns_resolver.missing_package() == ""
    monkeypatch.setattr(dns_resolver, "find_spec", lambda _name: None)
    assert dns_resolver.missing_package() == "needs dnspython: pip install 'triosmtp[dns]'"
