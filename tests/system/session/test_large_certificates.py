"""Clients that present a large certificate: sessions and policy clients wait for a thread, each address on its own."""

import socket
import ssl
from collections.abc import Callable, Hashable
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from tls_stanza import Material, secured

import triosmtp
from triosmtp.event import PolicyClientRefused, ServerEvent, TLSFailed
from triosmtp.limits.fair_queue import FairQueue, QueueFullError
from triosmtp.limits.large_flight_limiter import LargeFlightLimiter
from triosmtp.testing import open_memory_server


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    material = Material(tmp_path_factory.mktemp("certificates"))
    names = [f"a{number}.example" for number in range(400)]
    material.clients.issue("large.example", dns=names).write(material.folder, "large")
    return material


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Hashable]:
    """Return the peers for which a thread was asked."""
    peers: list[Hashable] = []
    place = LargeFlightLimiter.place

    def record(
        limiter: LargeFlightLimiter, peer: Hashable, is_gone: Callable[[], bool], size: int
    ) -> AbstractAsyncContextManager[None]:
        peers.append(peer)
        return place(limiter, peer, is_gone, size)

    monkeypatch.setattr(LargeFlightLimiter, "place", record)
    return peers


async def test_a_session_waits_with_those_of_its_address(material: Material, asked: list[Hashable]) -> None:
    async with open_memory_server(material.conf()) as server:
        await secured(server, material.client("good"))
        assert asked == []
        for peer in ("2001:db8::1", "2001:db8::2", "192.0.2.1"):
            client = server.connect(peer=peer)
            await client.read()
            await client.command("EHLO c.example.org")
            assert (await client.starttls(material.client("large"))).code == 220
            assert (await client.command("EHLO c.example.org")).code == 250
    network, again, single = asked
    assert network == again != single
    assert network is not None
    assert single is not None


async def test_where_the_queue_is_full_the_session_ends(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> AbstractAsyncContextManager[None]:
        raise QueueFullError

    monkeypatch.setattr(FairQueue, "place", refuse)
    async with open_memory_server(material.conf()) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO c.example.org")
        with suppress(trio.BrokenResourceError):  # in TLS 1.3 the client is done before the server has judged it
            await client.starttls(material.client("large"))
        while server.service.running:
            await trio.testing.wait_all_tasks_blocked()
    assert [e.reason for e in server.events if isinstance(e, TLSFailed)] == ["verification_queue_full"]


async def test_a_policy_client_waits_with_those_of_its_address(material: Material, asked: list[Hashable]) -> None:
    text = (
        material.conf().replace('":25"', '"127.0.0.1:0"')
        + f"""
Policy_Listener {{
  TLS_Certificate = "{material.folder}/cert.pem" TLS_Key = "{material.folder}/cert.key"
  TLS_Client_CA = "{material.folder}/clientca.bundle"
  Listen "127.0.0.2:0" {{ }}
}}"""
    )
    events: list[ServerEvent] = []

    async def drop(_: triosmtp.Message) -> None:
        return None

    def connect(address: tuple[str, int], name: str) -> None:
        context = material.client(name)
        with socket.create_connection(address, 10) as sock:
            tls = context.wrap_socket(sock, server_hostname="localhost")
            tls.sendall(b"GET / HTTP/1.1\r\n\r\n")
            with suppress(ssl.SSLError, ConnectionError):
                while tls.recv(4096):
                    pass
            tls.close()

    async with trio.open_nursery() as nursery:
        serve = partial(triosmtp.serve, triosmtp.parse_config(text), deliver=drop, observers=(events.append,))
        server = await nursery.start(serve)
        for name in ("good", "large"):
            await trio.to_thread.run_sync(connect, server.policy_addresses["127.0.0.2:0"], name)
        await server.aclose()
    [peer] = asked
    assert peer is not None
    assert not [event for event in events if isinstance(event, PolicyClientRefused) and "TLS" in event.reason]


def test_the_folder_holds_a_certificate_above_4_kb(material: Material) -> None:
    pem = Path(material.folder / "large.pem").read_text()
    assert len(ssl.PEM_cert_to_DER_cert(pem)) > 4096
