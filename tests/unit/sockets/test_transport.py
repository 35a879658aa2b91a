"""The stream of a connection over a real socket."""

import os
import socket
import ssl
import sys
from pathlib import Path

import pytest
import trio
import trio.testing
from listen_server import LISTEN, clients, conf, serving

from triosmtp.event import ServerEvent, TLSEstablished
from triosmtp.sockets.transport import SocketTransport
from triosmtp.testing import Authority, ScriptedClient


def socket_pair() -> tuple[SocketTransport, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return SocketTransport(ours), theirs


async def test_transport_sends_more_than_the_kernel_takes_at_once() -> None:
    stream, raw = socket_pair()
    other = SocketTransport(raw)
    data = os.urandom(3_000_000)
    got = bytearray()

    async def receive() -> None:
        while chunk := await other.receive_some(100_000):
            got.extend(chunk)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await stream.wait_send_all_might_not_block()
        await stream.send_all(data)
        await stream.send_eof()
    assert got == data
    await stream.aclose()
    await other.aclose()


async def test_a_transport_distinguishes_a_gone_peer_from_its_own_close() -> None:
    stream, raw = socket_pair()
    raw.close()
    assert await stream.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"x" * 100_000)
    await stream.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_all(b"x")
    with pytest.raises(trio.ClosedResourceError):
        await stream.wait_send_all_might_not_block()
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_eof()


async def test_closing_wakes_a_reader_and_cancelling_reaches_it() -> None:
    stream, raw = socket_pair()
    with trio.move_on_after(0) as scope:
        await stream.receive_some()
    assert scope.cancelled_caught

    async def read() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        await stream.aclose()
    raw.close()


async def test_the_end_of_a_handshake_is_acknowledged_at_once(tmp_path: Path) -> None:
    # A client with Nagle's algorithm cannot send before that, and the kernel itself takes 40 ms.
    authority = Authority.create()
    authority.issue("localhost", dns=["localhost"]).write(tmp_path, "cert")
    tls = f'TLS_Certificate = "{tmp_path}/cert.pem" TLS_Key = "{tmp_path}/cert.key" SMTP_Extensions = ( STARTTLS )'
    established = trio.Event()

    def observe(event: ServerEvent) -> None:
        if isinstance(event, TLSEstablished):
            assert event.tls.protocol == "TLSv1.3"
            established.set()

    async with serving(conf(body=tls), observers=(observe,)) as server:
        stream = await trio.open_tcp_stream(*server.addresses[LISTEN])
        client = ScriptedClient(stream)
        clients.append(client)
        await client.read()
        await client.starttls(ssl.create_default_context(cadata=authority.certificate_pem.decode()))
        await established.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert unacknowledged(stream.socket) == 0


def unacknowledged(sock: trio.socket.SocketType) -> int:
    """Return how many segments the peer's kernel has not acknowledged: tcpi_unacked, tcp(7)."""
    information = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)
    return int.from_bytes(information[24:28], sys.byteorder)
