"""Each thing that was seen to go wrong between OpenSSL, pyOpenSSL and Trio, made to go wrong again if it can."""

import ast
import contextlib
import gc
import ssl
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto
from tls_peers import (
    VERSIONS,
    adopted,
    client_context,
    client_credential,
    close,
    foreign_root,
    intermediate,
    meet,
    plain_client,
    root,
    server_context,
    settings,
    shake,
    taken,
)
from trio.testing import memory_stream_pair

import triosmtp.tls
from triosmtp.errors import HandshakeError
from triosmtp.tls import CertificateFiles, ContextStore, TLSSettings, build_context, load_material
from triosmtp.tls.engine import Engine
from triosmtp.tls.handshake import handshake
from triosmtp.tls.tls_info import tls_info
from triosmtp.tls.verify_callback import Verification
from triosmtp.x509.authority import Credential


def damaged_credential() -> Credential:
    der = bytearray(client_credential().certificate.public_bytes(Encoding.DER))
    der[-1] ^= 1
    return Credential((x509.load_der_x509_certificate(bytes(der)),), client_credential().key)


@pytest.mark.parametrize("version", VERSIONS)
async def test_1_a_big_write_arrives_whole(version: str) -> None:
    body = bytes(range(256)) * 400
    ours, theirs = memory_stream_pair()

    async def serve() -> None:
        stream, _ = await handshake(server_context(), ours)
        await stream.send_all(body)
        await close(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        client: trio.SSLStream[Any] = trio.SSLStream(theirs, client_context(version), server_hostname="x")
        received = b""
        while piece := await client.receive_some():
            received += piece
    assert received == body


@pytest.mark.parametrize("hello", [b"", b"\x16\x03\x01", None])
async def test_2_end_of_file_in_the_handshake_ends_it(hello: bytes | None) -> None:
    client = plain_client()
    if hello is None:
        with pytest.raises(SSL.WantReadError):
            client.do_handshake()
        hello = taken(client)
    ours, theirs = memory_stream_pair()
    if hello:
        await theirs.send_all(hello)
    await theirs.send_eof()
    with trio.fail_after(10), pytest.raises(HandshakeError) as failure:
        await handshake(server_context(), ours)
    assert failure.value.reason == "peer_closed"


async def test_2_end_of_file_in_a_handshake_by_SSLStream_ends_it() -> None:
    ours, theirs = memory_stream_pair()
    await theirs.send_eof()
    stream: trio.SSLStream[Any] = trio.SSLStream(ours, server_context().as_ssl_context(), server_side=True)
    with trio.fail_after(10), pytest.raises(trio.BrokenResourceError) as failure:
        await stream.do_handshake()
    assert isinstance(failure.value.__cause__, ssl.SSLEOFError)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("tickets", [True, False], ids=["tickets", "session ids"])
async def test_3_and_5_a_client_that_resumes_is_verified_anew(version: str, tickets: bool) -> None:
    client = client_context(version, foreign_root().issue("client.example"))
    if not tickets:
        client.options |= ssl.OP_NO_TICKET
    first, session = await meet(server_context(), client)
    assert not first.verified
    for _ in range(3):  # meet() asserts that the session was not resumed
        again, session = await meet(server_context(), client, session=session)
        assert not again.verified
        assert again.verify_code == first.verify_code == 20


@pytest.mark.parametrize(
    "switches", [{"tickets"}, {"cache"}, {"tickets", "cache"}], ids=lambda chosen: " and ".join(sorted(chosen))
)
@pytest.mark.parametrize("version", VERSIONS)
def test_3_and_5_where_sessions_do_resume_nothing_is_laundered_and_nobody_is_killed(
    version: str, switches: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last line of defence: our own context, without one of the switches that forbid to resume."""
    if "tickets" in switches:
        monkeypatch.setattr(SSL, "OP_NO_TICKET", 0)
    if "cache" in switches:
        monkeypatch.setattr(SSL, "SESS_CACHE_OFF", SSL.SESS_CACHE_SERVER)
    context = build_context(load_material(settings())).context
    client = plain_client(version, foreign_root().issue("client.example"))
    first = Engine(context)
    shake(first, client)
    adopted(first)
    first.write(b"220")  # takes the tickets along
    client.bio_write(first._outgoing.read())
    assert client.recv(3) == b"220"
    client.shutdown()
    session = client.get_session()
    assert session is not None

    again = SSL.Connection(client.get_context())
    again.set_connect_state()
    again.set_session(session)
    second = Engine(context)
    shake(second, again)
    assert second.openssl_connection.get_peer_certificate() is not None
    info = tls_info(second, certificate_requested=True)
    assert not info.verified
    assert attrs.astuple(second.verification) == attrs.astuple(Verification())  # nobody looked at it
    assert info.verify_error == "certificate was not verified in this handshake"


def test_4_the_last_word_is_ok_and_does_not_count() -> None:
    seen = []
    engine = Engine(server_context().context)
    shake(engine, plain_client(credential=foreign_root().issue("client.example")))
    seen.append(engine.verification)
    assert engine.openssl_connection.get_verified_chain()  # there is one all the same
    assert engine.verification.code == 20
    assert engine.verification.leaf_passed
    assert not engine.verification.is_verified


async def test_6_an_exception_in_the_callback_touches_nobody() -> None:
    engine = Engine(server_context().context)
    engine.openssl_connection.set_app_data(None)  # the record is gone: the callback cannot write
    shake(engine, plain_client(credential=client_credential()))
    assert not tls_info(engine, certificate_requested=True).verified
    info, _ = await meet(server_context(), client_context(credential=client_credential()))
    assert info.verified


async def test_7_the_alert_reaches_the_client() -> None:
    ours, theirs = memory_stream_pair()
    client: trio.SSLStream[Any] = trio.SSLStream(theirs, client_context("TLSv1.2", ciphers="ECDHE-RSA-AES128-SHA"))
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def serve() -> None:
            with pytest.raises(HandshakeError) as failure:
                await handshake(server_context(), ours)
            assert failure.value.reason == "no_common_cipher"

        with trio.fail_after(10), pytest.raises(trio.BrokenResourceError) as failure:
            await client.do_handshake()
    assert "HANDSHAKE_FAILURE" in str(failure.value.__cause__).upper()


async def test_7_a_client_that_does_not_read_the_alert_holds_up_nobody(autojump_clock: trio.testing.MockClock) -> None:
    class Deaf(trio.abc.Stream):
        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            return b"\x16\x03\x01\x00\x05hello"

        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            await trio.sleep_forever()

        async def wait_send_all_might_not_block(self) -> None: ...

        async def aclose(self) -> None: ...

    with pytest.raises(HandshakeError):
        await handshake(server_context(), Deaf())
    assert trio.current_time() <= 1.01


def reasons_of_a_failure() -> object:
    """Return what pyOpenSSL reports of a failure: all of this thread's error queue, old entries first."""
    with pytest.raises(crypto.Error) as failure:
        crypto.load_certificate(crypto.FILETYPE_PEM, b"junk")
    return failure.value.args


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("step", [None, 1, 100])
def test_8_a_bad_signature_leaves_nothing_behind(version: str, step: int | None) -> None:
    usual = reasons_of_a_failure()
    bystander = Engine(server_context().context)
    shake(bystander, plain_client(version))
    adopted(bystander)

    engine = Engine(server_context().context)
    shake(engine, plain_client(version, damaged_credential()), step=step)  # by one octet, it waits in every state
    assert engine.verification.code == 7
    assert reasons_of_a_failure() == usual

    shake(Engine(server_context().context), plain_client(version, damaged_credential()))
    incoming, _ = adopted(engine)
    for each in (engine, bystander):
        with pytest.raises(ssl.SSLWantReadError):
            each.read()
    incoming.write_eof()
    with pytest.raises(ssl.SSLEOFError):
        engine.read()


def alive() -> int:
    return sum(isinstance(each, SSL.Connection) for each in gc.get_objects())


async def test_9_no_connection_lives_on() -> None:
    """A thousand handshakes, good and failed, with the collector switched off."""
    context, client = server_context(), client_context("TLSv1.3", client_credential())
    await meet(context, client)
    gc.collect()
    before = alive()
    gc.disable()
    try:
        for number in range(250):
            await meet(context, client)
            for opening in (b"EHLO x\r\n", b"\x16\x03\x01\x00\x05hello", b""):
                ours, theirs = memory_stream_pair()
                if opening:
                    await theirs.send_all(opening)
                await theirs.send_eof()
                with contextlib.suppress(HandshakeError):
                    await handshake(context, ours)
            if number % 25 == 24:  # to count takes longer than the handshakes
                assert alive() <= before, f"after {4 * (number + 1)} handshakes"
    finally:
        gc.enable()


async def test_9_release_is_enough_where_closing_is_not_possible() -> None:
    ours, theirs = memory_stream_pair()
    client: trio.SSLStream[Any] = trio.SSLStream(theirs, client_context(), server_hostname="x")
    gc.collect()
    gc.disable()
    try:
        before = alive()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.do_handshake)
            stream, _ = await handshake(server_context(), ours)
        assert alive() == before + 1
        stream.release()
        stream.release()
        assert alive() == before
        await close(stream)  # in any order
    finally:
        gc.enable()


async def test_10_the_server_chain_is_the_file_and_nothing_else(tmp_path: Path) -> None:
    credential = intermediate().issue("localhost")
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(intermediate().certificate_pem + root().certificate_pem)
    for sent in (1, 2):
        part = Credential(credential.chain[:sent], credential.key)
        certificate, key = part.write(tmp_path, "server")
        identity = CertificateFiles(certificate, key)
        asking = TLSSettings(certificates=(identity,), client_ca=bundle, request_certificate=True)
        context = build_context(load_material(asking))
        client = plain_client()
        shake(Engine(context.context), client)
        chain = client.get_peer_cert_chain(as_cryptography=True)
        assert chain is not None
        assert tuple(chain) == credential.chain[:sent]


def test_11_no_flag_of_the_store_but_two_is_touched() -> None:
    folder = Path(triosmtp.tls.__file__).parent
    names = {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for file in folder.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Attribute | ast.Name)
    }
    assert "add_cert" in names
    harmless = {"CRL_CHECK", "PARTIAL_CHAIN"}
    assert harmless <= names
    assert names.isdisjoint({name for name in vars(crypto.X509StoreFlags) if name.isupper()} - harmless)


def test_12_openssl_conf_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENSSL_CONF", raising=False)
    assert load_material(settings()).warnings == ()
    monkeypatch.setenv("OPENSSL_CONF", "/etc/ssl/openssl.cnf")
    (warning,) = load_material(settings()).warnings
    assert "/etc/ssl/openssl.cnf" in str(warning)


async def test_13_a_swap_builds_anew_and_leaves_connections_alone() -> None:
    store = ContextStore()
    old = store.prepare(settings())
    engine = Engine(store.get(settings()).context)
    client = plain_client()
    shake(engine, client)
    # pyOpenSSL before 26.3 only warns, which is an error in these tests.
    with pytest.raises((ValueError, DeprecationWarning), match=r"already been used|after a Connection was created"):
        old.context.set_mode(0)
    fresh = build_context(load_material(settings()))
    store.replace({settings(): fresh})
    assert store.get(settings()) is fresh
    _, outgoing = adopted(engine)
    engine.write(b"220 still here\r\n")
    client.bio_write(outgoing.read())
    assert client.recv(100) == b"220 still here\r\n"
    info, _ = await meet(store.get(settings()), client_context(credential=client_credential()))
    assert info.verified


@pytest.mark.parametrize("version", VERSIONS)
async def test_14_plaintext_behind_close_notify_is_kept(version: str) -> None:
    ours, theirs = memory_stream_pair()
    client = plain_client(version)
    engine = Engine(server_context().context)
    shake(engine, client)
    stream: trio.SSLStream[Any] = trio.SSLStream(ours, engine, server_side=True)  # type: ignore[arg-type]  # as handshake() does
    client.send(b"QUIT\r\n")
    client.shutdown()
    await theirs.send_all(taken(client) + b"plain again\r\n")
    with trio.fail_after(10):
        assert await stream.receive_some() == b"QUIT\r\n"
        assert await stream.receive_some() == b""
        transport, behind = await stream.unwrap()
    assert behind == b"plain again\r\n"
    assert transport is ours
    client.bio_write(await theirs.receive_some())
    with pytest.raises(SSL.ZeroReturnError):
        client.recv(1)


def test_15_a_certificate_is_asked_for_and_never_demanded() -> None:
    assert server_context().context.get_verify_mode() == SSL.VERIFY_PEER
    assert server_context(ask=False).context.get_verify_mode() == SSL.VERIFY_NONE
