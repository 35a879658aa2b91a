"""The other side of the TLS tests: certificates, client contexts, and two ways to make client and server meet."""

import atexit
import os
import shutil
import ssl
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

import trio
from OpenSSL import SSL
from trio.testing import memory_stream_pair

from triosmtp.tls import CertificateFiles, ServerContext, TLSSettings, TLSStream, build_context, load_material
from triosmtp.tls.engine import Engine
from triosmtp.tls.handshake import handshake
from triosmtp.variables import TLSInfo
from triosmtp.x509.authority import Authority, Credential

VERSIONS: Final = ("TLSv1.2", "TLSv1.3")
JUDGE: Final = os.environ.get("TRIOSMTP_JUDGE") == "1"


def scaled(full: int, small: int) -> int:
    """Return how often to repeat, and say how much less than in full that is."""
    if JUDGE:
        return full
    print(f"scaled down: {small} of {full}")
    return small


@cache
def folder() -> Path:
    path = Path(tempfile.mkdtemp(prefix="triosmtp-tls-"))
    atexit.register(shutil.rmtree, path)
    return path


@cache
def root() -> Authority:
    return Authority.create("Test Root")


@cache
def foreign_root() -> Authority:
    return Authority.create("Foreign Root")


@cache
def intermediate() -> Authority:
    return root().issue_authority("Test Intermediate")


@cache
def server_credential() -> Credential:
    return root().issue("localhost", dns=["localhost"], ip=["127.0.0.1"], usage=["server"])


@cache
def client_credential() -> Credential:
    return root().issue("client.example", dns=["client.example"], usage=["client"])


@cache
def settings(*, ask: bool = True, ciphers: str = "DEFAULT", renegotiation: bool = False) -> TLSSettings:
    certificate, key = server_credential().write(folder(), "server")
    bundle = folder() / "ca.pem"
    bundle.write_bytes(root().certificate_pem)
    return TLSSettings(
        certificates=(CertificateFiles(certificate, key),),
        client_ca=bundle,
        request_certificate=ask,
        ciphers=ciphers,
        allow_renegotiation=renegotiation,
    )


def settings_of(certificate: Path, key: Path | None = None, **others: Any) -> TLSSettings:
    """Return settings with one certificate."""
    return TLSSettings(certificates=(CertificateFiles(certificate, key),), **others)


@cache
def server_context(*, ask: bool = True, ciphers: str = "DEFAULT", renegotiation: bool = False) -> ServerContext:
    return build_context(load_material(settings(ask=ask, ciphers=ciphers, renegotiation=renegotiation)))


def client_context(
    version: str = "TLSv1.3",
    credential: Credential | None = None,
    *,
    ciphers: str | None = None,
) -> ssl.SSLContext:
    """Return a client of the standard library that trusts nobody and presents ``credential``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version.replace(".", "_")]
    context.set_ciphers(ciphers or "DEFAULT:@SECLEVEL=0")  # so that it takes weak certificates of its own
    if credential is not None:
        with tempfile.NamedTemporaryFile() as both:
            both.write(credential.certificate_pem + credential.key_pem)
            both.flush()
            context.load_cert_chain(both.name)
    return context


async def meet(
    context: ServerContext,
    client: ssl.SSLContext,
    *,
    session: ssl.SSLSession | None = None,
    name: str | None = "localhost",
) -> tuple[TLSInfo, ssl.SSLSession | None]:
    """Run a whole session: handshake, greeting, QUIT, reply.  Return its TLSInfo, and a session to resume."""
    ours, theirs = memory_stream_pair()
    info: list[TLSInfo] = []

    async def serve() -> None:
        with trio.fail_after(20):
            stream, established = await handshake(context, ours)
            info.append(established)
            await stream.send_all(b"220 ready\r\n")
            assert await stream.receive_some() == b"QUIT\r\n"
            await close(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        stream: trio.SSLStream[Any] = trio.SSLStream(theirs, client, server_hostname=name, https_compatible=True)
        if session is not None:
            stream.session = session
        assert await stream.receive_some() == b"220 ready\r\n"
        await stream.send_all(b"QUIT\r\n")
        assert await stream.receive_some() == b""
        resumable: ssl.SSLSession | None = stream.session
        assert stream.session_reused is False
    return info[0], resumable


async def close(stream: TLSStream[Any], *, within: float = 1.0) -> None:
    """End a session as the server does: our close_notify, then the transport."""
    with trio.move_on_after(within), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await stream.send_close_notify()
    await stream.aclose()


def plain_client(version: str = "TLSv1.3", credential: Credential | None = None) -> SSL.Connection:
    """Return a pyOpenSSL client over memory."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    number = SSL.TLS1_2_VERSION if version == "TLSv1.2" else SSL.TLS1_3_VERSION
    context.set_min_proto_version(number)
    context.set_max_proto_version(number)
    if credential is not None:
        context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
        context.use_certificate(credential.chain[0])
        for certificate in credential.chain[1:]:
            context.add_extra_chain_cert(certificate)
        context.use_privatekey(credential.key)
    connection = SSL.Connection(context)
    connection.set_connect_state()
    return connection


def taken(connection: SSL.Connection) -> bytes:
    """Return all that a client has to send."""
    try:
        return connection.bio_read(1 << 20)
    except SSL.WantReadError:
        return b""


def shake(engine: Engine, client: SSL.Connection, *, step: int | None = None) -> None:
    """Run a handshake without any stream; the server gets ``step`` octets at a time."""
    done = False
    for _ in range(10):
        with suppress(SSL.WantReadError):
            client.do_handshake()
        flight = taken(client)
        for start in range(0, len(flight), step or max(1, len(flight))):
            engine.receive(flight[start : start + (step or len(flight))])
            done = engine.advance() or done
        output = engine.output()
        if output:
            client.bio_write(output)
        elif done:
            return
    raise AssertionError("no end of the handshake")


def adopted(engine: Engine) -> tuple[ssl.MemoryBIO, ssl.MemoryBIO]:
    """Return ``engine`` memory of its own, as SSLStream does."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    engine.wrap_bio(incoming, outgoing, server_side=True)
    return incoming, outgoing
