"""Limits of handshakes: over one STARTTLS is 454 and the session goes on, TLS from the first byte is closed."""

from ipaddress import ip_address

import pytest
import trio
import trio.testing
from tls_stanza import Material, secured

from triosmtp.event import ConnectionRefused, Disconnected, Refused, TLSEstablished
from triosmtp.limits.handshake_limiter import HandshakeLimiter
from triosmtp.testing import open_memory_server


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("certificates"))


A, B = ip_address("192.0.2.1"), ip_address("192.0.2.2")


def test_so_many_at_once() -> None:
    limiter = HandshakeLimiter(2)
    assert [limiter.admit(session, A, None, 0) for session in "abc"] == ["", "", "TLS_Handshakes_Max"]
    limiter.release("a")
    limiter.release("a")
    limiter.release("never entered")
    assert limiter.under_way == 1
    assert [limiter.admit(session, A, None, 0) for session in "cd"] == ["", "TLS_Handshakes_Max"]


def test_one_peer_has_a_tenth_and_at_least_ten() -> None:
    for limit, share in ((500, 50), (109, 10), (20, 10)):
        limiter = HandshakeLimiter(limit)
        told = [limiter.admit(f"a{number}", A, None, 0) for number in range(share + 1)]
        assert told == [""] * share + ["TLS_Handshakes_Max"]
        assert limiter.admit("b", B, None, 0) == ""
        limiter.release("a3")
        limiter.release("a3")
        assert [limiter.admit(session, A, None, 0) for session in ("again", "more")] == ["", "TLS_Handshakes_Max"]
    assert {limiter.admit(f"unix{number}", None, None, 0) for number in range(limit - share - 1)} == {""}
    assert limiter.admit("one more", None, None, 0) == "TLS_Handshakes_Max"


def test_the_share_of_an_ipv6_network_is_that_of_one_peer() -> None:
    limiter = HandshakeLimiter(500)
    told = [limiter.admit(f"s{number}", ip_address(f"2001:db8::{number:x}"), None, 0) for number in range(51)]
    assert told == [""] * 50 + ["TLS_Handshakes_Max"]
    assert limiter.admit("next", ip_address("2001:db8:0:1::1"), None, 0) == ""


def test_nothing_is_kept_of_peers_that_left() -> None:
    limiter = HandshakeLimiter(500)
    for number in range(100):
        limiter.admit(f"s{number}", ip_address(f"192.0.2.{number}"), None, 0)
        limiter.admit(f"s{number}", ip_address(f"192.0.2.{number}"), None, 0)  # the session's second counts once
    assert limiter.under_way == 100
    for number in range(100):
        limiter.release(f"s{number}")
    assert (limiter.under_way, dict(limiter._under_way_of)) == (0, {})


def test_zero_is_any_number() -> None:
    limiter = HandshakeLimiter(0)
    assert {limiter.admit(str(number), A, None, 0) for number in range(1000)} == {""}


def test_so_many_from_one_peer_in_a_window_that_opens_with_the_first() -> None:
    limiter = HandshakeLimiter(0)
    per_peer = (2, 10.0)
    assert [limiter.admit("x", A, per_peer, now) for now in (0, 9, 9.9)] == ["", "", "TLS_Handshakes_Per_Peer"]
    assert limiter.admit("x", B, per_peer, 9.9) == ""
    assert [limiter.admit("x", A, per_peer, now) for now in (10, 11, 12)] == ["", "", "TLS_Handshakes_Per_Peer"]


def test_what_is_refused_at_once_is_not_held_against_the_peer() -> None:
    limiter = HandshakeLimiter(1)
    assert limiter.admit("a", A, (1, 10.0), 0) == ""
    assert limiter.admit("b", B, (1, 10.0), 0) == "TLS_Handshakes_Max"
    limiter.release("a")
    assert limiter.admit("b", B, (1, 10.0), 0) == ""


def test_all_of_an_ipv6_network_is_one_peer_and_a_unix_socket_is_none() -> None:
    limiter = HandshakeLimiter(0)
    addresses = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]
    told = [limiter.admit("x", ip_address(address), (1, 10.0), 0) for address in addresses]
    assert told == ["", "TLS_Handshakes_Per_Peer", ""]
    assert {limiter.admit("x", None, (1, 10.0), 0) for _ in range(3)} == {""}


def test_the_table_of_peers_is_bounded() -> None:
    limiter = HandshakeLimiter(0, max_peers=3)
    for last in range(1, 5):
        limiter.admit("x", ip_address(f"192.0.2.{last}"), (1, 10.0), 0)
    assert len(limiter._peers._windows) == 3
    assert limiter.admit("x", ip_address("192.0.2.4"), (1, 10.0), 0) == "TLS_Handshakes_Per_Peer"
    assert limiter.admit("x", ip_address("192.0.2.1"), (1, 10.0), 0) == ""  # forgotten


async def test_over_the_peers_limit_starttls_is_454_and_mail_goes_on_in_plaintext(material: Material) -> None:
    async with open_memory_server(material.conf('TLS_Handshakes_Per_Peer = "1/3600"')) as server:
        await secured(server, material.client())
        client = server.connect()
        await client.read()
        await client.command("EHLO c.example.org")
        for _ in range(2):
            assert str(await client.command("STARTTLS"))[:9] == "454 4.7.0"
        assert (await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")).code == 250
        other = server.connect(peer="192.0.2.99")
        await other.read()
        await other.command("EHLO c.example.org")
        assert (await other.command("STARTTLS")).code == 220
    refused = [e for e in server.events if isinstance(e, Refused)]
    assert [(e.phase, e.code, e.enhanced, e.decided_by, e.reason) for e in refused] == [
        ("starttls", 454, "4.7.0", "limit", "TLS_Handshakes_Per_Peer")
    ] * 2


async def test_over_the_limit_of_all_starttls_waits_for_a_place(material: Material) -> None:
    async with open_memory_server("TLS_Handshakes_Max = 1\n" + material.conf()) as server:
        stalled, client = server.connect(), server.connect()
        for each in (stalled, client):
            await each.read()
            await each.command("EHLO c.example.org")
        assert (await stalled.command("STARTTLS")).code == 220
        assert (await client.command("STARTTLS")).code == 454
        assert server.service.handshakes.under_way == 1
        await stalled.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert server.service.handshakes.under_way == 0
        assert (await client.starttls(material.client())).code == 220
        assert (await client.command("EHLO c.example.org")).code == 250
        assert server.service.handshakes.under_way == 0


async def test_one_address_does_not_take_tls_from_the_others(material: Material) -> None:
    """Clients that stop behind STARTTLS; of those behind a trusted peer, each address has its own share."""
    text = "TLS_Handshakes_Max = 30\n" + material.conf(**{'"STARTTLS" )': '"STARTTLS" "XCLIENT" )'})
    async with open_memory_server(text) as server:

        async def stalled(peer: str, announced: str = "") -> int:
            client = server.connect(peer=peer)
            await client.read()
            await client.command("EHLO c.example.org")
            if announced:
                assert (await client.command(f"XCLIENT ADDR={announced}")).code == 220
                await client.command("EHLO c.example.org")
            return (await client.command("STARTTLS")).code

        assert [await stalled("192.0.2.1") for _ in range(12)] == [220] * 10 + [454] * 2
        assert [await stalled("192.0.2.2") for _ in range(2)] == [220] * 2
        assert await stalled("192.0.2.2", "192.0.2.1") == 454
        assert await stalled("192.0.2.1", "192.0.2.3") == 220
        assert server.service.handshakes.under_way == 13


async def test_under_use_ssl_the_connection_is_closed(material: Material) -> None:
    text = "TLS_Handshakes_Max = 1\n" + material.conf("Use_SSL = true", **{'"STARTTLS"': ""})
    async with open_memory_server(text) as server:
        stalled = server.connect()
        await trio.testing.wait_all_tasks_blocked()
        late = server.connect()
        assert await late.read_eof() == b""
        await stalled.handshake(material.client())
        assert (await stalled.read()).code == 220
        third = server.connect()
        await third.handshake(material.client())
        assert (await third.read()).code == 220
    assert [e.reason for e in server.events if isinstance(e, ConnectionRefused)] == ["TLS_Handshakes_Max"]
    assert "refused" in [e.reason for e in server.events if isinstance(e, Disconnected)]
    assert len([e for e in server.events if isinstance(e, TLSEstablished)]) == 2


async def test_an_injection_behind_starttls_holds_no_place(material: Material) -> None:
    async with open_memory_server("TLS_Handshakes_Max = 1\n" + material.conf()) as server:
        for _ in range(3):
            client = server.connect()
            await client.read()
            await client.command("EHLO c.example.org")
            await client.send(b"STARTTLS\r\nNOOP\r\n")
            assert (await client.read()).code == 554
        await secured(server, material.client())


async def test_a_client_that_is_gone_before_its_220_holds_no_place(material: Material) -> None:
    async with open_memory_server("TLS_Handshakes_Max = 1\n" + material.conf()) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO c.example.org")
        await client.send(b"STARTTLS\r\n")
        await client.aclose()
        while server.service.running:
            await trio.testing.wait_all_tasks_blocked()
        assert server.service.handshakes.under_way == 0
