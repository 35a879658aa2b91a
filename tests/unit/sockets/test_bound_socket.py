"""The socket of a wildcard, and the sockets of a Listen."""

import os
import socket
from contextlib import closing
from functools import partial

import pytest
import trio
from wildcard_listens import banner, conf, drop, free_port, serving

import triosmtp
from triosmtp import ConfigError, Server
from triosmtp.sockets.bound_socket import InheritedSocket, bind_at_startup

ALL, ONE, TWO = "*", "127.0.0.1", "127.0.0.2"


@pytest.mark.parametrize("taken", [ONE, "0.0.0.0"])
async def test_a_port_that_somebody_else_has_is_an_error(taken: str) -> None:
    with socket.socket() as sock:
        sock.bind((taken, 0))
        sock.listen()
        port = sock.getsockname()[1]
        with pytest.raises(ConfigError, match="Address already in use"):
            await triosmtp.serve(conf(port, ALL, ONE), deliver=drop)


async def test_a_second_server_is_an_error() -> None:
    port = free_port()
    async with serving(conf(port, ALL, ONE)):
        for hosts in ((ALL, ONE), (ALL,), (ONE,)):
            with pytest.raises(ConfigError, match="Address already in use"):
                await triosmtp.serve(conf(port, *hosts), deliver=drop)


def test_one_socket_is_bound_ahead_and_a_socket_that_was_given_is_its_listens_own() -> None:
    port = free_port()
    config = conf(port, ONE, ALL, TWO)
    bound = bind_at_startup(config, {}, (os.getuid(), os.getgid()))
    assert list(bound) == [config.listens[1].key]
    for each in bound.values():
        each.sock.close()


async def test_a_given_wildcard_has_guests_as_well() -> None:
    with closing(socket.socket()) as sock:
        sock.bind(("0.0.0.0", 0))
        sock.listen()
        sock.setblocking(False)
        port = sock.getsockname()[1]
        config = conf(port, ALL, ONE)
        async with trio.open_nursery() as nursery:
            given = {config.listens[0].key: InheritedSocket(sock, external=True)}
            server: Server = await nursery.start(partial(triosmtp.serve, config, deliver=drop, sockets=given))
            assert await banner(port, ONE) == ONE
            assert await banner(port, TWO) == ALL
            assert len(server.addresses) == 2
            nursery.cancel_scope.cancel()
