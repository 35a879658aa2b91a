"""Closing a listening socket: the connections in its backlog are accepted, and no new one comes."""

import socket
from pathlib import Path

import pytest
import trio

from triosmtp import parse_config
from triosmtp.sockets.bound_socket import BoundSocket, plan_sockets
from triosmtp.sockets.listen_backlog import drain_backlog, stop_syn
from triosmtp.sockets.peer import Peer


def bind(address: str) -> BoundSocket:
    """Return the socket of a configuration with one Listen."""
    [bound] = plan_sockets(parse_config(f'ESMTP_Listener {{ Listen "{address}" {{ }} }}')).opened
    return bound


def connect(bound: BoundSocket) -> socket.socket:
    """Return a client whose connection is in the backlog and that has sent data."""
    address = bound.sock.getsockname()
    client = socket.socket(bound.sock.family)
    client.settimeout(10)
    client.connect(address)
    client.sendall(b"EHLO c\r\n")
    return client


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_every_connection_in_the_backlog_is_accepted_after_new_ones_are_stopped(
    tmp_path: Path, kind: str
) -> None:
    bound = bind("127.0.0.1:0" if kind == "tcp" else f"{tmp_path}/smtp")
    clients = [connect(bound) for _ in range(5)]
    address = bound.sock.getsockname()
    stop_syn(bound)
    late = socket.socket(bound.sock.family)
    late.settimeout(0.5)  # shorter than the second after which a SYN is repeated
    with pytest.raises(OSError):
        late.connect(address)
    late.close()
    taken: list[tuple[BoundSocket, socket.socket, Peer]] = []
    await drain_backlog([bound], lambda *connection: taken.append(connection))
    bound.close()
    assert {place for place, _, _ in taken} == {bound}
    assert len(taken) == len(clients)
    for _, sock, _ in taken:
        assert sock.recv(100) == b"EHLO c\r\n"
        sock.close()
    for client in clients:
        assert client.recv(1) == b""  # closed in order, not reset
        client.close()


async def test_a_connection_that_completes_during_the_wait_is_accepted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    bound = bind("127.0.0.1:0")
    taken: list[socket.socket] = []
    clients: list[socket.socket] = []

    async def connect_later() -> None:
        await trio.sleep(0.1)
        clients.append(connect(bound))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connect_later)
        await drain_backlog([bound], lambda _bound, sock, _peer: taken.append(sock))
    bound.close()
    assert len(taken) == 1
    for sock in (*taken, *clients):
        sock.close()


async def test_the_socket_of_another_owner_is_left_open_to_clients() -> None:
    bound = bind("127.0.0.1:0")
    bound.external = True
    first = connect(bound)
    stop_syn(bound)
    second = connect(bound)
    taken: list[socket.socket] = []
    await drain_backlog([bound], lambda _bound, sock, _peer: taken.append(sock))
    assert taken == []
    for sock in (first, second):
        sock.close()
    bound.close()
