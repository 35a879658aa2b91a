"""The handshake: its result, the data that it keeps for the session, and the reasons of its failures."""

import ssl
from typing import Any

import pytest
import trio
from OpenSSL import SSL
from tls_peers import (
    VERSIONS,
    adopted,
    client_context,
    client_credential,
    close,
    plain_client,
    server_context,
    shake,
    taken,
)
from trio.testing import memory_stream_pair

from triosmtp.tls.engine import Engine
from triosmtp.tls.handshake import handshake


def opening(client: SSL.Connection) -> bytes:
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    return taken(client)


@pytest.mark.parametrize("version", VERSIONS)
async def test_data_that_comes_with_the_last_flight_is_not_lost(version: str) -> None:
    ours, theirs = memory_stream_pair()
    client = plain_client(version, client_credential())
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def connect() -> None:
            await theirs.send_all(opening(client))
            while True:
                client.bio_write(await theirs.receive_some())
                try:
                    client.do_handshake()
                except SSL.WantReadError:
                    flight = taken(client)
                    if version == "TLSv1.2" and flight:
                        await theirs.send_all(flight)
                else:
                    break
            client.send(b"EHLO eager\r\n")
            await theirs.send_all(taken(client))

        stream, _ = await handshake(server_context(), ours)
        assert await stream.receive_some() == b"EHLO eager\r\n"
        await close(stream)


@pytest.mark.parametrize("size", [1, 4, 5, 6, 20])
async def test_the_first_octets_may_come_alone(size: int) -> None:
    ours, theirs = memory_stream_pair()
    near, far = memory_stream_pair()
    client: trio.SSLStream[Any] = trio.SSLStream(far, client_context(), server_hostname="x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)

        @nursery.start_soon
        async def relay() -> None:
            early = await near.receive_some(size)
            await theirs.send_all(early)
            await trio.testing.wait_all_tasks_blocked()
            await theirs.send_all(await near.receive_some())
            await near.send_all(await theirs.receive_some())
            await theirs.send_all(await near.receive_some())

        stream, info = await handshake(server_context(), ours)
    assert info.protocol == "TLSv1.3"
    await close(stream)


def test_tls_1_3_holds_its_last_flight_until_the_first_reply() -> None:
    engine, client = Engine(server_context().context), plain_client("TLSv1.3")
    shake(engine, client)
    incoming, outgoing = adopted(engine)
    engine.do_handshake()
    assert outgoing.pending == 0
    client.send(b"EHLO x\r\n")
    incoming.write(taken(client))
    assert engine.read() == b"EHLO x\r\n"
    with pytest.raises(ssl.SSLWantReadError):
        engine.read()
    assert outgoing.pending == 0
    engine.write(b"250 x\r\n")
    assert outgoing.pending > len(b"250 x\r\n") + 22 + 100  # one record, and session tickets before it
    client.bio_write(outgoing.read())
    assert client.recv(100) == b"250 x\r\n"


async def test_cancelled_handshake_ends_at_once() -> None:
    ours, _theirs = memory_stream_pair()
    with trio.move_on_after(0) as scope:
        await handshake(server_context(), ours)
    assert scope.cancelled_caught
