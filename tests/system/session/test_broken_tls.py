"""TLS that breaks after its handshake: the peer gets the alert, and event and log the reason."""

import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from attrs import define
from OpenSSL import SSL
from tls_stanza import Material

import triosmtp
from triosmtp.event import Disconnected, ServerEvent
from triosmtp.logs.event_log import EventLog

VERSIONS = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("certificates"))


@define(eq=False)
class Listener:
    """A server and its events."""

    address: tuple[str, int]
    ended: trio.MemoryReceiveChannel[Disconnected]
    log: io.StringIO

    async def end(self) -> Disconnected:
        """Wait for the end of the only session."""
        with trio.fail_after(10):
            return await self.ended.receive()


@asynccontextmanager
async def listening(material: Material, more: str = "") -> AsyncIterator[Listener]:
    ends, ended = trio.open_memory_channel[Disconnected](1)

    def note(event: ServerEvent) -> None:
        if isinstance(event, Disconnected):
            ends.send_nowait(event)

    log = io.StringIO()

    async def drop(_: triosmtp.Message) -> None:
        return None

    config = triosmtp.parse_config(material.conf(more).replace('":25"', '"127.0.0.1:0"'))
    async with trio.open_nursery() as nursery:
        observers = (EventLog(log), note)
        server = await nursery.start(partial(triosmtp.serve, config, deliver=drop, observers=observers))
        yield Listener(server.addresses["127.0.0.1:0"], ended, log)
        await server.aclose()


class RawClient:
    """A client whose records can be seen, and changed, before they are sent."""

    def __init__(self, stream: trio.SocketStream, version: str) -> None:
        self.stream = stream
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(VERSIONS[version])
        context.set_max_proto_version(VERSIONS[version])
        self.tls = SSL.Connection(context)
        self.tls.set_connect_state()

    @classmethod
    async def secured(cls, listener: Listener, version: str) -> "RawClient":
        client = cls(await trio.open_tcp_stream(*listener.address), version)
        for line in (b"", b"EHLO c.example.org\r\n", b"STARTTLS\r\n"):
            await client.stream.send_all(line)
            await client.stream.receive_some()
        while True:
            try:
                client.tls.do_handshake()
                break
            except SSL.WantReadError:
                await client.flush()
                client.tls.bio_write(await client.stream.receive_some())
        await client.flush()
        return client

    def taken(self) -> bytes:
        try:
            return self.tls.bio_read(1 << 20)
        except SSL.WantReadError:
            return b""

    async def flush(self) -> None:
        data = self.taken()
        if data:
            await self.stream.send_all(data)

    def record(self, data: bytes) -> bytes:
        self.tls.send(data)
        return self.taken()

    async def command(self, line: bytes) -> bytes:
        await self.stream.send_all(self.record(line))
        while True:
            try:
                return self.tls.recv(1 << 16)
            except SSL.WantReadError:
                data = await self.stream.receive_some()
                assert data, "the server has closed"
                self.tls.bio_write(data)

    async def alert(self) -> str:
        """Read to the end, and return the alert that stands there."""
        received = b""
        with trio.fail_after(10):
            while data := await self.stream.receive_some():
                received += data
        if received:
            self.tls.bio_write(received)
        try:
            while True:
                self.tls.recv(1 << 16)
        except SSL.Error as error:
            return str(error.args[0][0][2]) if error.args else type(error).__name__


def spoiled(client: RawClient) -> bytes:
    record = client.record(b"NOOP\r\n")
    return record[:-1] + bytes([record[-1] ^ 1])


def foreign_type(_: RawClient) -> bytes:
    return b"\x63\x03\x03\x00\x20" + bytes(32)


def oversized_record(_: RawClient) -> bytes:
    return b"\x17\x03\x03\x50\x00" + bytes(0x5000)


BREAKS: list[tuple[Callable[[RawClient], bytes], set[str], str]] = [
    (spoiled, {"bad record mac"}, "bad record mac"),
    (foreign_type, {"unexpected message", "bad record mac"}, ""),  # TLS 1.2 decrypts before it looks
    (oversized_record, {"record overflow"}, ""),
]


Phase = Callable[[RawClient], Awaitable[None]]


async def before_a_command(client: RawClient) -> None:
    """Send it after STARTTLS: in TLS 1.3 the server still holds its tickets back."""


async def after_a_command(client: RawClient) -> None:
    assert (await client.command(b"EHLO c.example.org\r\n")).startswith(b"250")


async def in_a_body(client: RawClient) -> None:
    await after_a_command(client)
    for line in (b"MAIL FROM:<a@example.org>\r\n", b"RCPT TO:<b@example.com>\r\n"):
        assert (await client.command(line)).startswith(b"250")
    assert (await client.command(b"DATA\r\n")).startswith(b"354")
    await client.stream.send_all(client.record(b"Subject: half a mess"))


PHASES = [before_a_command, after_a_command, in_a_body]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(("broken", "alerts", "detail"), BREAKS)
async def test_a_failed_handshake_is_answered_with_an_alert_and_logged(
    material: Material, broken: Callable[[RawClient], bytes], alerts: set[str], detail: str, phase: Phase, version: str
) -> None:
    async with listening(material, "TLS_Verify_Mode = optional") as listener:
        client = await RawClient.secured(listener, version)
        await phase(client)
        await client.stream.send_all(broken(client))
        alert = await client.alert()
        assert any(alert.endswith(f"alert {name}") for name in alerts), alert
        await client.stream.aclose()
        end = await listener.end()
    assert end.reason == "tls_error"
    assert detail in end.detail
    assert " reason=tls_error detail=" in listener.log.getvalue()


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_alert_follows_the_earlier_replies(material: Material, version: str) -> None:
    """A command and what breaks the session in one segment: the command came first, its answer has nowhere to go."""
    async with listening(material, "TLS_Verify_Mode = optional") as listener:
        client = await RawClient.secured(listener, version)
        await after_a_command(client)
        await client.stream.send_all(client.record(b"NOOP\r\n") + spoiled(client))
        assert (await client.alert()).endswith("alert bad record mac")
        await client.stream.aclose()
        assert (await listener.end()).reason == "tls_error"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("phase", PHASES[1:])
async def test_an_alert_of_the_client_has_a_reason_of_its_own(material: Material, phase: Phase, version: str) -> None:
    async with listening(material, "TLS_Verify_Mode = optional") as listener:
        client = await RawClient.secured(listener, version)
        await phase(client)
        client.tls.bio_write(b"\x17\x03\x03\x00\x20" + bytes(32))  # it thinks that it was cheated, and says so
        with pytest.raises(SSL.Error):
            client.tls.recv(1)
        await client.flush()
        await client.stream.aclose()
        end = await listener.end()
    assert (end.reason, end.detail) == ("tls_alert", "bad_record_mac")
    assert " reason=tls_alert detail=bad_record_mac " in listener.log.getvalue()


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_connection_that_is_lost_is_not_tls_that_broke(material: Material, version: str) -> None:
    async with listening(material, "TLS_Verify_Mode = optional") as listener:
        client = await RawClient.secured(listener, version)
        await after_a_command(client)
        await client.stream.send_all(client.record(b"NOOP\r\n")[:-3])
        await client.stream.aclose()
        end = await listener.end()
    assert (end.reason, end.detail) == ("peer_closed", "")


async def test_the_alert_of_a_failed_handshake_reaches_a_client_that_keeps_sending(material: Material) -> None:
    """What it sends is read for a while: closing with something unread would reset the connection, and the alert."""
    async with listening(material) as listener:
        stream = await trio.open_tcp_stream(*listener.address)
        for line in (b"", b"EHLO c.example.org\r\n", b"STARTTLS\r\n"):
            await stream.send_all(line)
            await stream.receive_some()
        await stream.send_all(b"\x16\x03\x01\x00\x04\x99\x00\x00\x00" + bytes(500_000))
        received = b""
        with trio.fail_after(10):
            while data := await stream.receive_some():
                received += data
        await stream.aclose()
        assert (await listener.end()).reason == "tls_failed"
    assert received[:2] == b"\x15\x03"
