"""The encrypted stream: Trio's own rules for streams, bulk and small data, options of the context, real programs."""

import re
import socket
import ssl
import subprocess
from collections.abc import Sequence
from functools import partial
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
    folder,
    foreign_root,
    meet,
    plain_client,
    root,
    server_context,
    shake,
    taken,
)
from trio.testing import check_two_way_stream, lockstep_stream_pair, memory_stream_pair

from triosmtp.errors import HandshakeError
from triosmtp.sockets.transport import SocketTransport
from triosmtp.tls import (
    CertificateFiles,
    ServerContext,
    TLSSettings,
    TLSStream,
    build_context,
    load_material,
)
from triosmtp.tls.engine import Engine
from triosmtp.tls.handshake import handshake
from triosmtp.tls.stream import open_stream
from triosmtp.variables import TLSInfo

Pair = tuple[trio.abc.Stream, trio.abc.Stream]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("https_compatible", [False, True])
async def test_generic_stream_with_the_handshake_by_SSLStream(version: str, https_compatible: bool) -> None:
    def wrapped(pair: Pair) -> tuple["trio.SSLStream[Any]", "trio.SSLStream[Any]"]:
        near, far = pair
        context = client_context(version)
        return (
            trio.SSLStream(far, context, server_hostname="x", https_compatible=https_compatible),
            trio.SSLStream(
                near, server_context().as_ssl_context(), server_side=True, https_compatible=https_compatible
            ),
        )

    async def stream_maker() -> Pair:
        return wrapped(memory_stream_pair())

    async def clogged_stream_maker() -> Pair:
        client, server = wrapped(lockstep_stream_pair())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.do_handshake)
            nursery.start_soon(server.do_handshake)
        return client, server

    await check_two_way_stream(stream_maker, clogged_stream_maker)


async def shaken(pair: Sequence[trio.abc.Stream], version: str) -> tuple["trio.SSLStream[Any]", TLSStream[Any]]:
    """Return client and server after a handshake."""
    near, far = pair
    client: trio.SSLStream[Any] = trio.SSLStream(
        far, client_context(version), server_hostname="x", https_compatible=True
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        server, _ = await handshake(server_context(), near)
    return client, server


@pytest.mark.parametrize("version", VERSIONS)
async def test_generic_stream_with_the_handshake_by_the_pump(version: str) -> None:
    async def stream_maker() -> Pair:
        return await shaken(memory_stream_pair(), version)

    async def clogged_stream_maker() -> Pair:
        return await shaken(lockstep_stream_pair(), version)

    await check_two_way_stream(stream_maker, clogged_stream_maker)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_cancellation_right_behind_the_handshake_breaks_nothing(version: str) -> None:
    client, server = await shaken(memory_stream_pair(), version)
    with trio.CancelScope() as scope:
        scope.cancel()
        await server.receive_some(1)
    assert scope.cancelled_caught
    await server.send_all(b"421 Bye\r\n")
    assert await client.receive_some(100) == b"421 Bye\r\n"


Sockets = tuple[SocketTransport, SocketTransport]


def socket_pair(*, clogged: bool = False) -> Sockets:
    """Return two connected transports; ``clogged``: with the smallest buffers that the kernel makes."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
        if clogged:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    return SocketTransport(ends[0]), SocketTransport(ends[1])


@pytest.mark.parametrize("version", VERSIONS)
async def test_generic_stream_over_sockets(version: str) -> None:
    async def stream_maker() -> Pair:
        return await shaken(socket_pair(), version)

    await check_two_way_stream(stream_maker, None)


@pytest.mark.parametrize("end", ["close_notify", "error", "end of file"])
@pytest.mark.parametrize("limit", [7, 65536])
@pytest.mark.parametrize("step", [1, 4, 100, 100_000])
async def test_what_is_here_already_is_not_waited_for(step: int, limit: int, end: str) -> None:
    """Records that came together, the rest of one that was read in part, a half record, and the end or an error."""
    engine, connection = Engine(server_context().context), plain_client()
    shake(engine, connection)
    ours, theirs = memory_stream_pair()
    stream = await open_stream(ours, engine, may_renegotiate=False)
    for text in (b"one", b"two" * 100, b"three"):
        connection.send(text)
    if end == "close_notify":
        connection.shutdown()
    cipher, got = taken(connection), b""
    if end == "error":
        cipher += bytes.fromhex("1703030020") + bytes(32)  # a record that nobody encrypted
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            for start in range(0, len(cipher), step):
                await theirs.send_all(cipher[start : start + step])
            if end == "end of file":
                await theirs.send_eof()

        nursery.start_soon(send)
        with trio.fail_after(10):
            while True:
                try:
                    piece = await stream.receive_some(limit)
                except trio.BrokenResourceError:
                    assert end == "error"
                    break
                if not piece:
                    assert end != "error"
                    break
                got += piece
    assert got == b"one" + b"two" * 100 + b"three"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_big_body_comes_out_whole_however_it_is_cut(version: str) -> None:
    engine, client = Engine(server_context().context), plain_client(version)
    shake(engine, client)
    incoming, _ = adopted(engine)
    body = bytes(range(251)) * 2000
    for step in (3, 5, 1000, 16_384, 70_000):
        client.sendall(body)
        sealed, received = taken(client), b""
        for start in range(0, len(sealed), step):
            incoming.write(sealed[start : start + step])
            try:
                while True:
                    piece = engine.read(70_000)
                    assert 0 < len(piece) <= 70_000
                    received += piece
            except ssl.SSLWantReadError:
                pass
        assert received == body


@pytest.mark.parametrize("version", VERSIONS)
def test_plaintext_before_a_broken_record_is_read_first(version: str) -> None:
    engine, client = Engine(server_context().context), plain_client(version)
    shake(engine, client)
    incoming, _ = adopted(engine)
    client.send(b"MAIL FROM:<>\r\n")
    good = taken(client)
    client.send(b"RCPT TO:<x>\r\n")
    bad = bytearray(taken(client))
    bad[-1] ^= 1
    incoming.write(good + bytes(bad))
    assert engine.read() == b"MAIL FROM:<>\r\n"
    for _ in range(2):
        with pytest.raises(ssl.SSLError, match=r"bad record mac|decryption failed") as failure:
            engine.read()
        assert not isinstance(failure.value, ssl.SSLWantReadError | ssl.SSLEOFError)


def test_an_idle_connection_holds_no_ciphertext() -> None:
    engine, client = Engine(server_context().context), plain_client()
    shake(engine, client)
    incoming, _ = adopted(engine)
    client.sendall(b"x" * 100_000)
    incoming.write(taken(client))
    assert len(engine.read(200_000)) == 100_000
    assert engine._received == b""


def test_a_small_limit_takes_a_record_in_parts() -> None:
    engine, client = Engine(server_context().context), plain_client()
    shake(engine, client)
    incoming, _ = adopted(engine)
    client.send(bytes(range(100)))
    client.send(b"more")
    incoming.write(taken(client))
    received = b""
    while len(received) < 104:
        piece = engine.read(7)
        assert 0 < len(piece) <= 7
        received += piece
    assert received == bytes(range(100)) + b"more"
    with pytest.raises(ssl.SSLWantReadError):
        engine.read(7)


def test_several_records_are_one_read() -> None:
    engine, client = Engine(server_context().context), plain_client()
    shake(engine, client)
    incoming, _ = adopted(engine)
    for number in range(50):
        client.send(b"RCPT TO:<%d@example.org>\r\n" % number)
    incoming.write(taken(client))
    assert engine.read(65_536).count(b"\r\n") == 50


def test_a_read_takes_few_records_however_small_they_are() -> None:
    """Others have their turn then; what is left comes with the next reads, and nothing has to arrive for that."""
    engine, client = Engine(server_context().context), plain_client()
    shake(engine, client)
    incoming, _ = adopted(engine)
    sent = bytes(range(256)) * 4
    for octet in sent:
        client.send(bytes([octet]))
    incoming.write(taken(client))
    received = b""
    while len(received) < len(sent):
        piece = engine.read(262_144)
        assert len(piece) <= 64
        received += piece
        assert engine.needs_ciphertext is (len(received) == len(sent))
    assert received == sent
    with pytest.raises(ssl.SSLWantReadError):
        engine.read()
    assert engine.needs_ciphertext


def key_updates(number: int) -> tuple[Engine, bytes]:
    """Return the engine of a session with OpenSSL's program, and so many of its KeyUpdate records."""
    engine = Engine(server_context().context)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        command = ["openssl", "s_client", "-tls1_3", "-connect", f"127.0.0.1:{listener.getsockname()[1]}"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
        ) as program:
            assert program.stdin is not None
            assert program.stdout is not None
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(20)
                done = False
                while not done:
                    engine.receive(connection.recv(65_536))
                    done = engine.advance()
                    connection.sendall(engine.output())
                records = b""
                for _ in range(number):
                    program.stdin.write(b"K\n")  # the next one is a command only if it comes by itself
                    told = b""
                    while b"KEYUPDATE" not in told:
                        told += program.stdout.read(4096)
                    records += connection.recv(65_536)
            program.kill()
    return engine, records


def test_many_records_without_data_break_the_session() -> None:
    for number in (60, 70):
        engine, records = key_updates(number)
        incoming, _ = adopted(engine)
        incoming.write(records)
        with pytest.raises(ssl.SSLError) as failure:
            engine.read()
        assert isinstance(failure.value, ssl.SSLWantReadError) is (number == 60)
    assert engine.failure == "more than 64 records without data"


def test_facts_through_the_stream() -> None:
    engine, client = Engine(server_context().context), plain_client("TLSv1.2")
    shake(engine, client)
    assert engine.version() == "TLSv1.2"
    cipher = engine.cipher()
    assert cipher is not None
    assert cipher[1:] == ("TLSv1.2", 256)
    assert engine.pending() == 0
    with pytest.raises(ValueError, match="server"):
        engine.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())


def test_renegotiation_is_refused() -> None:
    engine, client = Engine(server_context().context), plain_client("TLSv1.2")
    shake(engine, client)
    incoming, outgoing = adopted(engine)
    client.renegotiate()
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    incoming.write(taken(client))
    with pytest.raises(ssl.SSLWantReadError):
        engine.read()
    client.bio_write(outgoing.read())
    with pytest.raises(SSL.Error) as failure:
        client.do_handshake()
    assert "no renegotiation" in str(failure.value)


async def test_nothing_below_tls_1_2() -> None:
    command = ["openssl", "s_client", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]
    output, failure = await against_openssl(command, server_context(ciphers="ALL:@SECLEVEL=0"))
    assert isinstance(failure, HandshakeError)
    assert failure.reason == "no_common_version"
    assert b"protocol version" in output


async def against_openssl(
    command: list[str], context: ServerContext | None = None
) -> tuple[bytes, TLSInfo | HandshakeError | None]:
    """Let OpenSSL's own client connect over a real socket; the server greets, and waits for QUIT."""
    outcome: list[TLSInfo | HandshakeError] = []

    async def serve(transport: trio.SocketStream) -> None:
        try:
            stream, info = await handshake(context or server_context(), transport)
        except HandshakeError as error:
            outcome.append(error)
            await transport.aclose()
            return
        outcome.append(info)
        await stream.send_all(b"220 ready\r\n")
        while await stream.receive_some() not in {b"QUIT\r\n", b""}:
            pass
        await close(stream)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        address = listener.socket.getsockname()
        with trio.fail_after(20):
            run = partial(trio.run_process, check=False, capture_stdout=True, stderr=subprocess.STDOUT)
            result = await run([*command, "-connect", f"127.0.0.1:{address[1]}", "-crlf", "-ign_eof"], stdin=b"QUIT\n")
        nursery.cancel_scope.cancel()
    return result.stdout, outcome[0] if outcome else None


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("who", ["good", "foreign", "nobody"])
async def test_openssl_s_client(version: str, who: str) -> None:
    command = ["openssl", "s_client", version, "-servername", "localhost", "-CAfile", str(folder() / "ca.pem")]
    server_context()
    if who != "nobody":
        credential = client_credential() if who == "good" else foreign_root().issue("client.example")
        certificate, key = credential.write(folder(), who)
        command += ["-cert", str(certificate), "-key", str(key)]
    output, info = await against_openssl(command)
    assert b"220 ready" in output
    assert b"Verify return code: 0 (ok)" in output
    assert b"Acceptable client certificate CA names" in output
    assert b"CN = Test Root" in output
    assert isinstance(info, TLSInfo)
    assert info.verified is (who == "good")
    assert info.verify_code == {"good": 0, "foreign": 20, "nobody": 0}[who]


async def test_openssl_s_client_resumes_nothing() -> None:
    session = folder() / "session.pem"
    command = ["openssl", "s_client", "-sess_out", str(session), "-tls1_2"]
    await against_openssl(command)
    if session.exists():
        output, _ = await against_openssl(["openssl", "s_client", "-sess_in", str(session), "-tls1_2"])
        assert b"Reused, " not in output
        assert b"220 ready" in output


async def test_a_client_that_leaves_without_close_notify_is_at_its_end() -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        client: trio.SSLStream[Any] = trio.SSLStream(theirs, client_context(), server_hostname="x")
        nursery.start_soon(client.do_handshake)
        stream, _ = await handshake(server_context(), ours)
    await theirs.aclose()
    assert await stream.receive_some() == b""
    await close(stream)


async def test_close_tells_the_client_and_is_bounded(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        client: trio.SSLStream[Any] = trio.SSLStream(theirs, client_context(), server_hostname="x")
        nursery.start_soon(client.do_handshake)
        stream, _ = await handshake(server_context(), ours)
    started = trio.current_time()
    await close(stream, within=0.5)  # nobody reads: a lockstep stream does not take it
    assert trio.current_time() - started <= 0.51
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_all(b"x")


async def test_own_deadline_of_the_caller(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = memory_stream_pair()
    await theirs.send_all(b"\x16")
    with pytest.raises(trio.TooSlowError), trio.fail_after(30):
        await handshake(server_context(), ours)
    assert trio.current_time() == pytest.approx(30)


async def test_who_says_nothing_at_all_is_not_waited_for_as_long(autojump_clock: trio.testing.MockClock) -> None:
    ours, _theirs = memory_stream_pair()
    with pytest.raises(HandshakeError) as caught, trio.fail_after(30):
        await handshake(server_context(), ours)
    assert trio.current_time() == pytest.approx(10)
    assert (caught.value.reason, caught.value.detail) == ("timed_out", "no ClientHello within 10 s")


async def test_the_stream_is_wrapped_in_SSLStream() -> None:
    client, server = await shaken(memory_stream_pair(), "TLSv1.3")
    assert isinstance(server, TLSStream)
    assert isinstance(server.ssl_stream, trio.SSLStream)
    assert server.ssl_stream.context is server.engine
    await server.ssl_stream.send_all(b"220 x\r\n")
    assert await client.receive_some() == b"220 x\r\n"


async def test_an_rsa_certificate() -> None:
    certificate, key = root().issue("localhost", key_type="RSA-2048").write(folder(), "rsa")
    context = build_context(load_material(TLSSettings(certificates=(CertificateFiles(certificate, key),))))
    info, _ = await meet(context, client_context("TLSv1.2"))
    assert "RSA" in info.cipher


async def test_a_handshake_by_SSLStream_that_fails() -> None:
    ours, theirs = memory_stream_pair()
    await theirs.send_all(b"EHLO x\r\n")
    stream: trio.SSLStream[Any] = trio.SSLStream(ours, server_context().as_ssl_context(), server_side=True)
    with pytest.raises(trio.BrokenResourceError) as failure:
        await stream.do_handshake()
    # OpenSSL 4 and 3.5 say it differently.
    assert re.search("wrong version number|packet length too long", str(failure.value.__cause__))


@pytest.mark.parametrize("version", VERSIONS)
async def test_unwrap_waits_for_the_client_s_goodbye(version: str) -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        client: trio.SSLStream[Any] = trio.SSLStream(theirs, client_context(version), server_hostname="x")
        nursery.start_soon(client.do_handshake)
        server, _ = await handshake(server_context(), ours)
    left: list[bytes] = []

    async def leave() -> None:
        _, behind = await server.ssl_stream.unwrap()
        left.append(bytes(behind))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave)
            await trio.testing.wait_all_tasks_blocked()
            assert left == []
            assert await client.receive_some() == b""
            transport, _ = await client.unwrap()
            await transport.send_all(b"plain")
    assert left[0] + (await ours.receive_some() if not left[0] else b"") == b"plain"


@pytest.mark.parametrize("version", VERSIONS)
async def test_unwrap_of_a_client_that_is_gone(version: str) -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        client: trio.SSLStream[Any] = trio.SSLStream(theirs, client_context(version), server_hostname="x")
        nursery.start_soon(client.do_handshake)
        server, _ = await handshake(server_context(), ours)
    await theirs.send_eof()
    with trio.fail_after(10), pytest.raises(trio.BrokenResourceError) as failure:
        await server.ssl_stream.unwrap()
    assert isinstance(failure.value.__cause__, ssl.SSLEOFError)


def test_writing_behind_close_notify_is_an_error() -> None:
    engine, client = Engine(server_context().context), plain_client()
    shake(engine, client)
    adopted(engine)
    assert engine.close_notify()
    with pytest.raises(ssl.SSLError, match="shutdown"):
        engine.write(b"250 too late\r\n")
