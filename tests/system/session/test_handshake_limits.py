"""Limits of handshakes: over one STARTTLS is 454 and the session goes on, TLS from the first byte is closed."""

import pytest
import trio
import trio.testing
from tls_stanza import Material, secured

from triosmtp.event import ConnectionRefused, Disconnected, Refused, TLSEstablished
from triosmtp.testing import open_memory_server


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("certificates"))


async def test_over_the_limit_of_a_peer_starttls_is_454_and_plaintext_continues(material: Material) -> None:
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
        assert server.service.limits.handshakes.under_way == 1
        await stalled.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert server.service.limits.handshakes.under_way == 0
        assert (await client.starttls(material.client())).code == 220
        assert (await client.command("EHLO c.example.org")).code == 250
        assert server.service.limits.handshakes.under_way == 0


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
        assert server.service.limits.handshakes.under_way == 13


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
        assert server.service.limits.handshakes.under_way == 0
