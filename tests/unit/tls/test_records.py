"""Records that no TLS library writes, and floods of records without data: each costs little, and nothing piles up."""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import trio
from OpenSSL import SSL
from tls_peers import VERSIONS, adopted, server_context, shake
from tls_records import ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE, RecordClient
from trio.testing import wait_all_tasks_blocked

from triosmtp.sockets.transport import SocketTransport
from triosmtp.tls import TLSStream, openssl_memory
from triosmtp.tls.engine import Engine
from triosmtp.tls.handshake import handshake
from triosmtp.tls.large_flight import MAX_RENEGOTIATION

Make = Callable[[RecordClient], bytes]

_TICKETS = 200  # octets of TLS 1.3's session tickets, at most, which go out with the first answer


def connected(version: str) -> tuple[RecordClient, Engine, ssl.MemoryBIO]:
    """Return a client, the server's engine and its outgoing memory; the handshake is done."""
    client, engine = RecordClient(version), Engine(server_context().context)
    shake(engine, client.connection)
    _, outgoing = adopted(engine)
    return client, engine, outgoing


def read(engine: Engine, record: bytes) -> bytes:
    """Read as TLSStream does, and SSLStream if that must."""
    plaintext = engine.decrypt(record, 65_536)
    if plaintext or engine.needs_ciphertext:
        return plaintext
    try:
        return engine.read(65_536)
    except ssl.SSLWantReadError:
        return b""


def encrypted(kind: int, data: bytes) -> Make:
    return lambda client: client.record(kind, data)


@pytest.mark.parametrize("version", VERSIONS)
def test_records_of_any_size_up_to_16_kib(version: str) -> None:
    client, engine, _ = connected(version)
    for size in (1, 2, 255, 256, 16_383, 16_384):
        assert read(engine, client.record(APPLICATION_DATA, b"x" * size)) == b"x" * size
        assert engine.needs_ciphertext


FATAL: dict[str, tuple[Make, tuple[str, ...], int]] = {
    "16 KiB and one octet": (encrypted(APPLICATION_DATA, b"x" * 16_385), VERSIONS, 1),
    "empty data": (encrypted(APPLICATION_DATA, b""), VERSIONS, 33),
    "warnings": (encrypted(ALERT, b"\1\x5a"), VERSIONS, 5),
    "a warning in two records": (encrypted(ALERT, b"\1"), ("TLSv1.3",), 1),
    "change_cipher_spec": (encrypted(CHANGE_CIPHER_SPEC, b"\1"), VERSIONS, 1),
    "plain change_cipher_spec": (lambda _: b"\x14\3\3\0\1\1", VERSIONS, 1),
    "plaintext": (lambda _: b"\x17\3\3\0\6NOOP\r\n", VERSIONS, 1),
    "empty handshake": (encrypted(HANDSHAKE, b""), VERSIONS, 33),
    "HelloRequest": (encrypted(HANDSHAKE, bytes(4)), VERSIONS, 1),
    "ClientHello": (encrypted(HANDSHAKE, b"\1\0\0\x30\3\3" + bytes(46)), ("TLSv1.3",), 1),
    "a header without end": (lambda _: b"\x17\3\3\xff\xff" + bytes(65_535), VERSIONS, 1),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", FATAL)
def test_a_record_that_ends_the_session(version: str, name: str) -> None:
    """After so many of them at most; the alert is there to be sent, and data behind it is not taken."""
    make, versions, most = FATAL[name]
    if version not in versions:
        pytest.skip("not in this version")
    client, engine, outgoing = connected(version)
    read(engine, client.record(APPLICATION_DATA, b"NOOP\r\n"))
    sent, failed = 0, False
    for _ in range(most + 1):
        try:
            assert read(engine, make(client)) == b""
        except ssl.SSLError as error:
            failed = not isinstance(error, ssl.SSLWantReadError | ssl.SSLEOFError)
            break
        sent += len(outgoing.read())
    assert failed
    assert sent <= _TICKETS
    assert engine.failure
    assert engine.pending_output()
    with pytest.raises(ssl.SSLError):
        read(engine, client.record(APPLICATION_DATA, b"MAIL FROM:<>\r\n"))
    assert engine.encrypt(b"250 OK\r\n") == b""


@pytest.mark.parametrize("together", [1, 60])
def test_answers_do_not_pile_up(together: int) -> None:
    """Each KeyUpdate asks for another, which a read hands out and SSLStream sends before it reads on."""
    client, engine, outgoing = connected("TLSv1.3")
    for _ in range(1200 // together):
        assert read(engine, b"".join(client.key_update() for _ in range(together))) == b""
        assert len(outgoing.read()) <= 40 * together + _TICKETS
        assert openssl_memory.take_ciphertext(engine.openssl_connection) == b""
    assert read(engine, client.record(APPLICATION_DATA, b"NOOP\r\n")) == b"NOOP\r\n"


@pytest.mark.parametrize("together", [1, 60])
def test_a_flood_of_renegotiations_that_are_refused_ends_the_session(together: int) -> None:
    client, engine, outgoing = connected("TLSv1.2")
    hello = encrypted(HANDSHAKE, b"\1\0\0\x30\3\3" + bytes(46))
    number = answers = 0
    failure = ""
    while not failure and number < 1200:
        number += together
        try:
            read(engine, b"".join(hello(client) for _ in range(together)))
        except ssl.SSLError as error:
            failure = str(error)
        answers += len(outgoing.read())
    assert f"more than {MAX_RENEGOTIATION} octets in a renegotiation" in failure
    assert number * 80 < MAX_RENEGOTIATION + 160 or together == 60
    assert answers <= 40 * 80


@pytest.fixture
def sockets() -> Iterator[tuple[SocketTransport, SocketTransport]]:
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    near, far = SocketTransport(ends[0]), SocketTransport(ends[1])
    yield near, far
    near.close()
    far.close()


async def connected_over_sockets(
    near: SocketTransport, far: SocketTransport, client: RecordClient
) -> TLSStream[SocketTransport]:
    async def connect() -> None:
        connection = client.connection
        done = False
        while not done:
            try:
                connection.do_handshake()
                done = True
            except SSL.WantReadError:
                pass
            await far.send_all(openssl_memory.take_ciphertext(connection))
            if not done:
                connection.bio_write(await far.receive_some())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connect)
        server, _ = await handshake(server_context(), near)
    return server


async def received(client: RecordClient, far: SocketTransport) -> bytes:
    while True:
        client.connection.bio_write(await far.receive_some())
        with suppress(SSL.WantReadError):  # tickets come first
            return client.connection.recv(100)


@pytest.mark.parametrize("behind", ["together", "later"])
async def test_a_write_that_waits_for_the_rest_of_a_key_update(
    sockets: tuple[SocketTransport, SocketTransport], behind: str
) -> None:
    """OpenSSL writes nothing before it has all of a message.  Data behind it are read afterwards."""
    near, far = sockets
    client = RecordClient("TLSv1.3")
    server = await connected_over_sockets(near, far, client)
    got: list[bytes] = []

    async def serve() -> None:
        got.append(bytes(await server.receive_some(100)))
        await server.send_all(b"250 OK\r\n")
        got.append(bytes(await server.receive_some(100)))

    assert server.start_send(b"220 ready\r\n")
    assert await received(client, far) == b"220 ready\r\n"
    whole = (24, 0, 0, 1, 0)
    await far.send_all(client.record(APPLICATION_DATA, b"NOOP\r\n") + client.record(HANDSHAKE, bytes(whole[:4])))
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            while not got:
                await trio.lowlevel.checkpoint()
            await wait_all_tasks_blocked()
            rest = client.finish_key_update(bytes(whole[4:]))
            command = client.record(APPLICATION_DATA, b"QUIT\r\n")
            await far.send_all(rest + command if behind == "together" else rest)
            assert await received(client, far) == b"250 OK\r\n"
            if behind == "later":
                await far.send_all(command)
    assert got == [b"NOOP\r\n", b"QUIT\r\n"]
    server.release()
