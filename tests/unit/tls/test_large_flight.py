"""Large flights of clients: verified in threads, and not at all above a size."""

import gc
import ssl
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import outcome
import pytest
import trio
import trio.testing
from attrs import evolve
from hostile_chain import hostile_chain
from OpenSSL import SSL
from tls_peers import (
    VERSIONS,
    client_context,
    client_credential,
    close,
    plain_client,
    server_context,
    settings,
    shake,
    taken,
)
from trio.testing import memory_stream_pair

from triosmtp.errors import HandshakeError
from triosmtp.tls import build_context, load_material
from triosmtp.tls.engine import Engine
from triosmtp.tls.handshake import handshake
from triosmtp.tls.large_flight import LARGE_FLIGHT, MAX_FLIGHT, MAX_RENEGOTIATION, MAX_RENEGOTIATIONS, flight_limiter
from triosmtp.tls.verify_callback import record_verification
from triosmtp.variables import TLSInfo
from triosmtp.x509.authority import Credential

LARGE = 150
"""Names in each certificate of a chain of four: 8 KB."""


# Handshakes


@pytest.fixture
def callers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the thread of each call of the verify callback, in contexts that are built from now on."""
    seen: list[int] = []

    def record(*arguments: Any) -> bool:
        seen.append(threading.get_ident())
        return record_verification(*arguments)

    monkeypatch.setattr("triosmtp.tls.context.record_verification", record)
    return seen


async def shaken(client: ssl.SSLContext, server: Callable[[trio.abc.Stream], Any]) -> Any:
    """Let a client shake hands with ``server``, and return what that returns."""
    ours, theirs = memory_stream_pair()

    async def connect() -> None:
        stream: trio.SSLStream[Any] = trio.SSLStream(theirs, client, server_hostname="x", https_compatible=True)
        try:
            await stream.receive_some()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connect)
        with trio.fail_after(20):
            result = await outcome.acapture(server, ours)
            await ours.aclose()
    return result.unwrap()


async def failure_of(shaking: Awaitable[Any]) -> tuple[str, str]:
    try:
        await shaking
    except HandshakeError as error:
        return error.reason, error.detail
    raise AssertionError


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_large_flight_is_verified_off_the_loop_and_a_small_one_on_it(version: str, callers: list[int]) -> None:
    context = build_context(load_material(settings()))

    async def serve(transport: trio.abc.Stream) -> TLSInfo:
        stream, info = await handshake(context, transport)
        await close(stream)
        return info

    info = await shaken(client_context(version, hostile_chain(4, LARGE)), serve)
    assert (info.verify_code, info.verified) == (20, False)
    assert info.client_subject == "CN=c0"
    assert info.client_sans[0] == "uri:a://b"
    assert callers
    assert threading.get_ident() not in callers
    callers.clear()
    info = await shaken(client_context(version, client_credential()), serve)
    assert info.verified
    assert set(callers) == {threading.get_ident()}
    assert flight_limiter().borrowed_tokens == 0


@pytest.mark.parametrize("version", VERSIONS)
async def test_above_64_kb_nothing_is_verified(version: str, callers: list[int]) -> None:
    context = build_context(load_material(settings()))
    credential = hostile_chain(8, 700)
    assert MAX_FLIGHT < len(b"".join(each.tbs_certificate_bytes for each in credential.chain)) < 100_000
    with pytest.raises(HandshakeError) as caught:
        await shaken(client_context(version, credential), partial(handshake, context))
    assert caught.value.reason == "certificate_too_large"
    assert caught.value.detail == "more than 65536 octets in one flight"
    assert callers == []


async def test_a_hello_above_64_kb_is_not_taken_either() -> None:
    ours, theirs = memory_stream_pair()
    record = b"\x16\x03\x01\x40\x00"
    await theirs.send_all(record + b"\x01\x01\x20\x00" + bytes(16380) + (record + bytes(16384)) * 4)
    with trio.fail_after(10), pytest.raises(HandshakeError) as caught:
        await handshake(server_context(), ours)
    assert caught.value.detail == "more than 65536 octets in one flight"


async def test_where_there_is_no_place_the_handshake_fails(callers: list[int]) -> None:
    context = build_context(load_material(settings()))
    asked: list[int] = []

    def refuse(size: int) -> AbstractAsyncContextManager[None]:
        asked.append(size)
        raise HandshakeError("verification_queue_full", "as the test wants it")

    with pytest.raises(HandshakeError) as caught:
        await shaken(
            client_context(credential=hostile_chain(4, LARGE)), partial(handshake, context, acquire_thread=refuse)
        )
    assert caught.value.reason == "verification_queue_full"
    [size] = asked
    assert LARGE_FLIGHT < size < MAX_FLIGHT
    assert callers == []


async def test_a_handshake_that_fails_in_a_thread_sends_its_alert_and_leaves_nothing() -> None:
    """A record that is not what the client sent: the alert is bad_record_mac."""
    context, client = server_context(), plain_client("TLSv1.3", hostile_chain(4, LARGE))
    gc.collect()
    before = context.sessions
    gc.disable()
    try:
        ours, theirs = memory_stream_pair()

        async def spoil() -> None:
            with pytest.raises(SSL.WantReadError):
                client.do_handshake()
            await theirs.send_all(taken(client))
            client.bio_write(await theirs.receive_some())
            client.do_handshake()
            flight = taken(client)
            await theirs.send_all(flight[:-1] + bytes([flight[-1] ^ 1]))
            client.bio_write(await theirs.receive_some())
            with pytest.raises(SSL.Error) as told:
                client.recv(1)
            assert told.value.args[0][0][2].endswith("alert bad record mac")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(spoil)
            with trio.fail_after(10):
                why = await failure_of(handshake(context, ours))
        assert why == ("protocol_error", "decryption failed or bad record mac; record layer failure")
        assert context.sessions == before
    finally:
        gc.enable()


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_handshake_by_SSLStream_takes_no_large_flight(version: str, callers: list[int]) -> None:
    context = build_context(load_material(settings()))

    async def serve(transport: trio.abc.Stream) -> None:
        await trio.SSLStream(transport, context.as_ssl_context(), server_side=True).do_handshake()

    await shaken(client_context(version, client_credential()), serve)
    callers.clear()
    with pytest.raises(trio.BrokenResourceError) as caught:
        await shaken(client_context(version, hostile_chain(4, LARGE)), serve)
    assert "a flight above 4096 octets" in str(caught.value.__cause__)
    assert callers == []


class Dribble(trio.abc.Stream):
    """A transport that brings what comes in small pieces, and counts what it is asked for."""

    def __init__(self, inner: trio.abc.Stream, size: int) -> None:
        self._inner = inner
        self._size = size
        self.acknowledged = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self._inner.receive_some(self._size))

    async def send_all(self, data: Any) -> None:
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._inner.aclose()

    def acknowledge(self) -> None:
        self.acknowledged += 1


@pytest.mark.parametrize(("size", "pieces"), [(1000, True), (60_000, False)])
async def test_each_piece_of_a_flight_is_acknowledged(size: int, pieces: bool) -> None:
    """With Nagle's algorithm the client keeps the last piece until the one before is acknowledged."""

    async def serve(transport: trio.abc.Stream) -> int:
        dribble = Dribble(transport, size)
        stream, _ = await handshake(server_context(), dribble)
        await close(stream)
        return dribble.acknowledged

    acknowledged = await shaken(client_context(credential=hostile_chain(4, LARGE)), serve)
    assert (acknowledged >= 7) is pieces
    assert acknowledged == 0 or pieces


# Renegotiation


def renegotiate(then: Credential) -> tuple[Engine, ssl.MemoryBIO, ssl.MemoryBIO, SSL.Connection]:
    """Connect with a small certificate, then begin a renegotiation with another."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    for certificate in then.chain[1:]:
        context.add_extra_chain_cert(certificate)
    client = SSL.Connection(context)
    client.set_connect_state()
    engine = build_context(load_material(evolve(settings(), allow_renegotiation=True))).new_engine()
    shake(engine, client)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    engine.wrap_bio(incoming, outgoing, server_side=True)
    engine.do_handshake()
    client.use_certificate(then.certificate)
    client.use_privatekey(then.key)
    renegotiate_again(engine, incoming, outgoing, client)
    return engine, incoming, outgoing, client


def renegotiate_again(engine: Engine, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, client: SSL.Connection) -> None:
    assert client.renegotiate()
    for _ in range(3):
        try:
            client.do_handshake()
        except SSL.WantReadError:
            incoming.write(taken(client))
        with pytest.raises(ssl.SSLWantReadError):
            engine.read()
        if outgoing.pending:
            client.bio_write(outgoing.read())


def test_a_renegotiation_with_a_small_certificate_goes_on(callers: list[int]) -> None:
    engine, incoming, _, client = renegotiate(client_credential())
    assert callers
    assert client.total_renegotiations() == 1
    client.send(b"NOOP\r\n")
    incoming.write(taken(client))
    assert engine.read() == b"NOOP\r\n"


def test_a_client_renegotiates_a_few_times_and_no_more() -> None:
    engine, incoming, outgoing, client = renegotiate(client_credential())
    for _ in range(MAX_RENEGOTIATIONS - 1):
        renegotiate_again(engine, incoming, outgoing, client)
    client.send(b"NOOP\r\n")
    incoming.write(taken(client))
    assert engine.read() == b"NOOP\r\n"
    with pytest.raises(ssl.SSLError, match=f"more than {MAX_RENEGOTIATIONS} renegotiations"):
        renegotiate_again(engine, incoming, outgoing, client)
    assert engine.verification.handshakes == MAX_RENEGOTIATIONS + 1


def test_a_renegotiation_with_a_large_certificate_is_the_end(callers: list[int]) -> None:
    with pytest.raises(ssl.SSLError) as caught:
        renegotiate(hostile_chain(4, LARGE))
    assert f"more than {MAX_RENEGOTIATION} octets in a renegotiation" in str(caught.value)
    assert callers == []
