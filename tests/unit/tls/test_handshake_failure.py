"""Why a handshake failed: each reason, made by a client."""

import ssl
import warnings
from typing import Any, get_args

import pytest
import trio
from OpenSSL import SSL
from tls_peers import (
    VERSIONS,
    client_credential,
    plain_client,
    server_context,
    taken,
)
from trio.testing import memory_stream_pair

from triosmtp.errors import HandshakeError
from triosmtp.tls import REASONS, HandshakeReason
from triosmtp.tls.engine import Engine
from triosmtp.tls.handshake import handshake
from triosmtp.tls.handshake_failure import failure_of


def opening(client: SSL.Connection) -> bytes:
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    return taken(client)


async def failure(*flights: bytes) -> HandshakeError:
    """Send each flight when the one before was answered; return how the handshake failed."""
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def send() -> None:
            for number, flight in enumerate(flights):
                if number:
                    await theirs.receive_some()
                await theirs.send_all(flight)
            await theirs.receive_some()
            await theirs.send_eof()

        with trio.fail_after(10), pytest.raises(HandshakeError) as caught:
            await handshake(server_context(), ours)
        await ours.aclose()
    assert caught.value.reason in REASONS
    return caught.value


def test_every_reason_has_its_sentence() -> None:
    assert set(REASONS) == set(get_args(HandshakeReason))
    assert all(sentence.endswith(".") for sentence in REASONS.values())


@pytest.mark.parametrize(
    "words", [b"EHLO client.example\r\n", b"GET / HTTP/1.1\r\n\r\n", b"CONNECT x:25 HTTP/1.1\r\n\r\n", b"\x00" * 30]
)
async def test_not_tls(words: bytes) -> None:
    assert (await failure(words)).reason == "not_tls"


async def test_plaintext_that_comes_in_drops_is_found_out_too() -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def send() -> None:
            for octet in b"EHLO x\r\n":
                await theirs.send_all(bytes([octet]))
                await trio.testing.wait_all_tasks_blocked()

        with pytest.raises(HandshakeError) as caught:
            await handshake(server_context(), ours)
    assert caught.value.reason == "not_tls"


async def test_no_common_version() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.minimum_version = ssl.TLSVersion.TLSv1
        client.maximum_version = ssl.TLSVersion.TLSv1_1
    client.set_ciphers("ALL:@SECLEVEL=0")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        client.wrap_bio(incoming, outgoing, server_hostname="x").do_handshake()
    assert (await failure(outgoing.read())).reason == "no_common_version"


async def test_no_common_cipher() -> None:
    client = SSL.Context(SSL.TLS_CLIENT_METHOD)
    client.set_max_proto_version(SSL.TLS1_2_VERSION)
    client.set_cipher_list(b"ECDHE-RSA-AES128-GCM-SHA256")
    connection = SSL.Connection(client)
    connection.set_connect_state()
    assert (await failure(opening(connection))).reason == "no_common_cipher"


@pytest.mark.parametrize(
    ("alert", "name"),
    [(48, "unknown_ca"), (42, "bad_certificate"), (40, "handshake_failure"), (112, "unrecognized_name")],
)
@pytest.mark.parametrize("version", VERSIONS)
async def test_alert_of_the_client_has_a_name(version: str, alert: int, name: str) -> None:
    error = await failure(opening(plain_client(version)), b"\x15\x03\x03\x00\x02\x02" + bytes([alert]))
    assert (error.reason, error.detail) == ("peer_alert", name)


async def test_client_that_distrusts_us_says_so() -> None:
    ours, theirs = memory_stream_pair()
    distrustful = ssl.create_default_context()
    client: trio.SSLStream[Any] = trio.SSLStream(theirs, distrustful, server_hostname="localhost")
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def connect() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await client.do_handshake()
            # Trio does not send the alert that OpenSSL has ready: do it for it.
            await theirs.send_all(client._outgoing.read())

        with pytest.raises(HandshakeError) as caught:
            await handshake(server_context(), ours)
    assert (caught.value.reason, caught.value.detail) == ("peer_alert", "unknown_ca")


@pytest.mark.parametrize("version", VERSIONS)
async def test_close_notify_in_the_handshake(version: str) -> None:
    error = await failure(opening(plain_client(version)), b"\x15\x03\x03\x00\x02\x01\x00")
    assert error.reason == "peer_closed"


async def test_transport_that_breaks() -> None:
    ours, theirs = memory_stream_pair()
    await theirs.send_all(opening(plain_client()))
    await theirs.aclose()
    with pytest.raises(HandshakeError) as caught:
        await handshake(server_context(), ours)
    assert caught.value.reason == "peer_closed"


async def test_nonsense() -> None:
    assert (await failure(b"\x16\x03\x01\x00\x05hello")).reason == "protocol_error"


def certificate_flight() -> tuple[Engine, bytes]:
    """Return a TLS 1.2 server that has sent its flight, and the client's certificate flight in plain records."""
    engine = Engine(server_context().context)
    client = plain_client("TLSv1.2", client_credential())
    engine.receive(opening(client))
    assert not engine.advance()
    client.bio_write(engine.output())
    return engine, opening(client)


def outcome(engine: Engine, flight: bytes) -> str:
    engine.receive(flight)
    try:
        return "done" if engine.advance() else "waits"
    except SSL.Error as error:
        return failure_of(error, 0x16)[0]


def test_certificate_flight_is_what_the_tests_below_take_it_for() -> None:
    engine, flight = certificate_flight()
    assert outcome(engine, flight) == "done"
    assert engine.verification.is_verified


def test_certificate_that_is_not_der() -> None:
    engine, flight = certificate_flight()
    der = flight.index(b"\x30\x82")
    assert outcome(engine, flight[:der] + b"\x31" + flight[der + 1 :]) == "certificate_unparsable"


def test_no_proof_of_possession() -> None:
    engine, flight = certificate_flight()
    proof = flight.index(b"\x16\x03\x03", flight.index(b"\x16\x03\x03", 5) + 5)  # third record: CertificateVerify
    broken = bytearray(flight)
    broken[proof + 20] ^= 1
    assert outcome(engine, bytes(broken)) == "bad_certificate_proof"
    assert not engine.verification.code  # the certificate itself was in order …
    assert (
        engine.openssl_connection.get_state_string() != b"SSL negotiation finished successfully"
    )  # … and nobody got in


def test_certificate_message_that_is_too_large() -> None:
    engine, _ = certificate_flight()
    claim = b"\x0b" + (200_000).to_bytes(3, "big")
    assert outcome(engine, b"\x16\x03\x03" + len(claim).to_bytes(2, "big") + claim) == "certificate_too_large"
