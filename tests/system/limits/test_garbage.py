"""Data that is not TLS in place of TLS, and data that is nearly TLS: the connection ends, and the server continues."""

import os
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
import trio
from fortress import JUDGE, Fortress, besieged

from triosmtp.event import TLSEstablished, TLSFailed
from triosmtp.testing import Authority, ScriptedClient
from triosmtp.tls import REASONS

FULL, SMALL = 10_000, 100  # of each kind; the first test counts twice
COUNT = FULL if JUDGE else SMALL
SEED = int(os.environ.get("TRIOSMTP_SEED", "20260203"))


def client_hello(version: ssl.TLSVersion) -> bytes:
    context = ssl.create_default_context()
    context.minimum_version = context.maximum_version = version
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


HELLOS = [client_hello(version) for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)]
PLAIN = [
    b"\r\n",
    b"EHLO x\r\nQUIT\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x80\x2e\x01\x03\x01",
    b"\x00" * 70_000,
]


def garbage(random: Random) -> bytes:
    """Return noise, plaintext, or a ClientHello with a few octets changed, cut or put in."""
    kind = random.randrange(8)
    if kind == 0:
        return random.choice(PLAIN)
    if kind == 1:
        return random.randbytes(random.randrange(1, 2000))
    if kind == 2:  # a record of a random type and any length
        body = random.randbytes(random.randrange(400))
        return bytes([random.randrange(18, 26), 3, random.randrange(5)]) + len(body).to_bytes(2, "big") + body
    data = bytearray(random.choice(HELLOS))
    for _ in range(random.randrange(1, 6)):
        place = random.randrange(len(data))
        match random.randrange(3):
            case 0:
                data[place] = random.randrange(256)
            case 1:
                del data[place : place + random.randrange(1, 20)]
            case 2:
                data[place:place] = random.randbytes(random.randrange(1, 20))
    return bytes(data or b"\x16")


async def hang_up(stream: trio.SocketStream) -> None:
    """Send that nothing more comes, take what there is, close."""
    with suppress(OSError, trio.BrokenResourceError):
        await stream.send_eof()
    await ScriptedClient(stream).read_eof()
    await trio.aclose_forcefully(stream)


async def attack(fortress: Fortress, data: bytes, *, use_ssl: bool) -> None:
    stream = await fortress.dial(use_ssl=use_ssl)
    if not use_ssl:
        client = ScriptedClient(stream)
        await client.read()
        await client.command("EHLO client.example.org")
        assert (await client.command("STARTTLS")).code == 220
    with suppress(trio.BrokenResourceError):
        await stream.send_all(data)
    await hang_up(stream)


@pytest.mark.parametrize("use_ssl", [False, True])
async def test_garbage_in_place_of_a_handshake(tmp_path: Path, caplog: pytest.LogCaptureFixture, use_ssl: bool) -> None:
    print(f"{COUNT} of {FULL} handshakes, seed {SEED} (TRIOSMTP_SEED)")
    random = Random(SEED)
    async with besieged(tmp_path, caplog) as fortress:
        for _ in range(COUNT):
            await attack(fortress, garbage(random), use_ssl=use_ssl)
        await fortress.quiet()
        assert set(fortress.ends) == {"tls_failed"}
        failures = [event for event in fortress.events if isinstance(event, TLSFailed)]
        assert len(failures) == COUNT
        assert {event.reason for event in failures} <= set(REASONS)
        assert len({event.reason for event in failures}) > 3


def mutated(random: Random, flight: bytes) -> bytes:
    data = bytearray(flight)
    for _ in range(random.randrange(1, 4)):
        # Behind the first headers, mostly: what is no record at all is the other test's matter.
        data[random.randrange(9 if random.random() < 0.9 else 0, len(data))] = random.randrange(256)
    return bytes(data)


async def flights(fortress: Fortress, context: ssl.SSLContext, random: Random) -> None:
    """Begin a handshake in good order, and damage the flight that holds the client's certificate."""
    stream = await fortress.dial(use_ssl=True)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with suppress(trio.BrokenResourceError):
        for damage in (False, True):
            with suppress(ssl.SSLWantReadError):
                client.do_handshake()
            while not outgoing.pending:
                incoming.write(bytes(await stream.receive_some(65536)))
                with suppress(ssl.SSLWantReadError):
                    client.do_handshake()
            flight = outgoing.read()
            await stream.send_all(mutated(random, flight) if damage else flight)
    await hang_up(stream)


async def test_certificates_that_are_damaged_on_their_way(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    print(f"{COUNT // 2} of {FULL // 2} flights, seed {SEED} (TRIOSMTP_SEED)")
    random = Random(SEED)
    async with besieged(tmp_path, caplog) as fortress:
        authority = Authority.create("foreign")
        pem, key = authority.issue("client.example", dns=["client.example"]).write(tmp_path, "foreign")
        context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        context.load_cert_chain(pem, key)
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # in which certificates are sent in plaintext
        warm = 100 if JUDGE else COUNT // 8
        for number in range(COUNT // 2):
            await flights(fortress, context, random)
            if number == warm:
                await fortress.quiet()
                before = resident()
        await fortress.quiet()
        assert resident() - before < 16 << 20  # with all that the test itself keeps of events
        assert not [e for e in fortress.events if isinstance(e, TLSEstablished) and e.tls.verified]
        failures = {e.reason for e in fortress.events if isinstance(e, TLSFailed)}
        assert failures <= set(REASONS)
        assert {"bad_certificate_proof", "certificate_unparsable"} & failures


def resident() -> int:
    """Return memory of this process, the server within it, in octets."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_garbage_after_a_handshake(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    random = Random(SEED)
    async with besieged(tmp_path, caplog) as fortress:
        for number in range(max(25, COUNT // 20)):
            client = await fortress.connect(tls=True)
            stream = client.stream
            assert isinstance(stream, trio.SSLStream)
            transport = stream.transport_stream
            body = random.randbytes(random.randrange(1, 300))
            kind = random.choice((b"", b"\x17\x03\x03", b"\x15\x03\x03", b"\x16\x03\x03", b"\x14\x03\x03"))
            await transport.send_all(kind + (len(body).to_bytes(2, "big") if kind else b"") + body)
            if number % 2:
                await transport.send_all(b"QUIT\r\n")
            await hang_up(transport)
        await fortress.quiet()
        assert "tls_error" in fortress.ends
        assert set(fortress.ends) <= {"peer_closed", "tls_error", "tls_alert"}


async def test_a_stalled_handshake_times_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with besieged(tmp_path, caplog, "TLS_Handshake_Timeout = 1") as fortress:
        silent = await fortress.dial(use_ssl=True)
        half = await fortress.dial(use_ssl=True)
        await half.send_all(HELLOS[1][:100])
        for stream in (silent, half):
            await ScriptedClient(stream).read_eof()
            await trio.aclose_forcefully(stream)
        await fortress.quiet()
        assert [e.reason for e in fortress.events if isinstance(e, TLSFailed)] == ["timed_out"] * 2


async def test_a_client_that_does_not_read_its_handshake(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with besieged(tmp_path, caplog, "TLS_Handshake_Timeout = 1 Tcp_Send_Buffer_Size = 2048") as fortress:
        stream = await fortress.dial(use_ssl=True)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        await stream.send_all(HELLOS[0])
        await fortress.quiet()
        await trio.aclose_forcefully(stream)
