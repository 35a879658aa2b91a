"""One TLS connection as a client: handshake, data, errors."""

import ssl

import pytest
import trio
from OpenSSL import SSL
from tls_peers import folder, foreign_root, root
from trio.testing import memory_stream_pair

from triosmtp.errors import HandshakeError
from triosmtp.tls.client import TLSClient
from triosmtp.tls.client_context import ClientTLSSettings, build_client_context


def client_context() -> SSL.Context:
    bundle = folder() / "client-ca.pem"
    bundle.write_bytes(root().certificate_pem)
    return build_client_context(ClientTLSSettings(ca=bundle), {})[0]


def server_context(version: ssl.TLSVersion, *, foreign: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(*(foreign_root() if foreign else root()).issue("x").write(folder(), "tls-client-peer"))
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("foreign", [False, True])
async def test_a_session(version: ssl.TLSVersion, foreign: bool) -> None:
    ours, theirs = memory_stream_pair()
    client = TLSClient(ours, client_context(), "x")
    server = trio.SSLStream(theirs, server_context(version, foreign=foreign), server_side=True, https_compatible=True)
    data = b"x" * 300_000

    async def serve() -> None:
        received = b""
        while len(received) < len(data):
            received += bytes(await server.receive_some())
        await server.send_all(received[:100_000])
        await server.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await client.handshake()
        assert client.verification.is_verified is not foreign
        assert client.certificate is not None
        assert client.protocol == version.name.replace("_", ".")
        await client.send_all(data)
        received = b""
        while chunk := await client.receive_some():
            received += chunk
    assert received == data[:100_000]
    client.release()
    with pytest.raises(trio.ClosedResourceError):
        await client.send_all(b"x")


async def test_a_server_that_is_none() -> None:
    for answer in (b"220 hi\r\n", b"", b"\x15\x03\x01\x00\x02\x02\x28"):
        ours, theirs = memory_stream_pair()
        await theirs.send_all(answer)
        await theirs.send_stream.aclose()
        with pytest.raises(HandshakeError):
            await TLSClient(ours, client_context(), None).handshake()


async def test_garbage_after_the_handshake_is_an_error() -> None:
    ours, theirs = memory_stream_pair()
    client = TLSClient(ours, client_context(), "x")
    server = trio.SSLStream(theirs, server_context(ssl.TLSVersion.TLSv1_3), server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.handshake)
        await server.do_handshake()
    await theirs.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(trio.BrokenResourceError):
        await client.receive_some()


async def test_more_records_than_were_read() -> None:
    """They are in OpenSSL's memory: neither the transport nor the caller has them."""
    ours, theirs = memory_stream_pair()
    client = TLSClient(ours, client_context(), "x")
    server = trio.SSLStream(theirs, server_context(ssl.TLSVersion.TLSv1_3), server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.handshake)
        await server.do_handshake()
    for text in (b"one", b"two"):
        await server.send_all(text)
    assert await client.receive_some() == b"one"
    found = [client.has_more]
    assert await client.receive_some() == b"two"
    found.append(client.has_more)
    await server.send_all(b"three")
    assert await client.receive_some(2) == b"th"
    found.append(client.has_more)
    assert found == [True, False, True]
