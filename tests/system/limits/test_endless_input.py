"""Input without an end: a million chunks, a line or a chunk that never ends, a TLS stream that ends in the middle."""

import ssl
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
import trio
import trio.testing
from fortress import JUDGE, besieged

from triosmtp.smtp import NEED_DATA, Bdat, BodyChunk, Connection, ConnectionSettings, ProtocolFailure, Reply
from triosmtp.testing import ScriptedClient, open_memory_server

CHUNKS = 1_000_000 if JUDGE else 20_000
FLAT = 300_000
"""Octets by which memory may differ: caches and the allocator's own affairs."""
PIECE = b"x" * 262_144
MAX_EXCESS = 67_108_864
CHUNKING = """Relay_Domains = ( "example.com" ) Spool_Directory = "{folder}" {more}
ESMTP_Listener {{ Listen ":25" {{ SMTP_Extensions = ( ENHANCEDSTATUSCODES CHUNKING ) }} }}"""
ENVELOPE = b"EHLO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n"


class Driver:
    """Answers with the usual replies, and keeps only the latest event."""

    def __init__(self, **rules: int) -> None:
        self.connection = Connection(
            ConnectionSettings(hostname="mx.example.org", extensions=frozenset({"CHUNKING"}), **rules)  # type: ignore[arg-type]
        )
        self.connection.send()
        self.latest: object = None
        self.codes: list[bytes] = []

    def hears(self, data: bytes) -> None:
        self.connection.receive_data(data)
        while (event := self.connection.next_event()) is not NEED_DATA:
            assert not isinstance(event, type(NEED_DATA))
            self.latest = event
            if not isinstance(event, BodyChunk | Bdat):
                self.codes = [self.connection.send()[:3]]


def grown(driver: Driver, unit: bytes, times: int) -> int:
    """Send ``unit`` over and over; return how much memory was in use at most."""
    tracemalloc.start()
    for _ in range(times):
        driver.hears(unit)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("unit", [b"BDAT 0\r\n", b"BDAT 1\r\nx", b"BDAT 1\r\nx" * 1000])
def test_empty_chunks_are_limited_in_the_core(unit: bytes) -> None:
    driver = Driver(max_junk_commands=0)
    driver.hears(ENVELOPE)
    assert grown(driver, unit, CHUNKS // unit.count(b"BDAT")) < FLAT
    driver.hears(b"BDAT 0 LAST\r\n")
    assert driver.codes == [b"250"]
    assert driver.connection.state.name == "READY"


@pytest.mark.parametrize("unit", [b"BDAT 0\r\n", b"BDAT 1\r\nx"])
async def test_empty_chunks_are_limited_by_a_server(tmp_path: Path, unit: bytes) -> None:
    config = CHUNKING.format(folder=tmp_path, more="Max_Junk_Commands = 0")
    sizes: list[int] = []
    async with open_memory_server(config) as server:
        client = server.connect()
        await client.send(ENVELOPE)
        for code in (220, 250, 250, 250):
            assert (await client.read()).code == code
        tracemalloc.start()
        for _ in range(CHUNKS // 500):
            await client.send(unit * 500)
            for _ in range(500):
                assert (await client.read()).code == 250
            sizes.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        await client.send(b"BDAT 0 LAST\r\n")
        assert (await client.read()).code == 250
    assert [len(message.body) for message in server.messages] == [CHUNKS if unit.endswith(b"x") else 0]
    # Not the message: with an octet each, that stays below what is kept in memory, and is in a file beyond it.
    assert max(sizes) - sizes[0] < FLAT + 1_048_576


async def test_empty_chunks_are_limited_by_default(tmp_path: Path) -> None:
    async with open_memory_server(CHUNKING.format(folder=tmp_path, more="")) as server:
        client = server.connect()
        await client.send(ENVELOPE + b"BDAT 0\r\n" * 5000)
        said = await client.read_eof()
    assert said.count(b"250 2.0.0 0 octets received") == 99  # EHLO was junk as well
    assert said.endswith(b"421 4.7.0 Too many commands without a message\r\n")


# A line without an end


def test_a_line_without_an_end_in_the_core() -> None:
    driver = Driver(max_discarded_size=1_000_000)
    tracemalloc.start()
    fed = 0
    while not driver.connection.closed:
        driver.hears(PIECE)
        fed += len(PIECE)
        assert fed < 2_000_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(driver.latest, ProtocolFailure)
    assert driver.latest.reply == Reply(500, "Line too long", "5.5.2")
    assert peak < FLAT


def test_lines_that_end_have_a_bound_each() -> None:
    driver = Driver(max_discarded_size=1_000_000)
    for _ in range(20):
        driver.hears(b"x" * 900_000 + b"\r\n")
        assert driver.codes == [b"500"]
    driver.hears(b"x" * 900_000 + b"\r\n")
    assert driver.codes == [b"421"]


@pytest.mark.parametrize("first", [b"", b"NONSENSE ", b"MAIL FROM:<", b"AUTH ", b"\xff"])
async def test_a_line_without_an_end_at_a_server(first: bytes) -> None:
    async with open_memory_server('ESMTP_Listener { Listen ":25" { } }') as server:
        client = server.connect()
        await client.read()
        await client.send(first)
        sent = 0
        tracemalloc.start()
        try:
            while sent < 2 * MAX_EXCESS:
                await client.send(PIECE)
                await trio.testing.wait_all_tasks_blocked()  # a stream in memory takes all at once
                sent += len(PIECE)
        except trio.BrokenResourceError:
            pass  # it has closed
        else:
            pytest.fail("it is read without an end")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert await client.read_eof() == b"500 5.5.2 Line too long\r\n"
    assert MAX_EXCESS - 2 * len(PIECE) < sent < MAX_EXCESS + 4 * len(PIECE)
    assert peak < 4_000_000


# A chunk without an end, behind an error

ERRORS = [b"", b"DATA\r\n", b"NONSENSE\r\n", b"MAIL FROM:<\r\n", b"MAIL FROM:<>\r\n", b"STARTTLS x\r\n"]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("size", [MAX_EXCESS + 1, 10**18 - 1])
def test_a_chunk_without_an_end_behind_an_error_in_the_core(error: bytes, size: int) -> None:
    driver = Driver()
    driver.hears(b"EHLO x\r\n" + error + b"BDAT %d\r\n" % size)
    assert isinstance(driver.latest, ProtocolFailure)
    assert driver.connection.closed


@pytest.mark.parametrize("error", ERRORS)
async def test_a_chunk_behind_an_error_at_a_server(tmp_path: Path, error: bytes) -> None:
    async with open_memory_server(CHUNKING.format(folder=tmp_path, more="")) as server:
        client = server.connect()
        await client.send(b"EHLO x\r\n" + error + b"BDAT 999999999999 LAST\r\nQUIT\r\n")
        said = await client.read_eof()
        assert said.splitlines()[-1][:9] in {b"503 5.5.1", b"554 5.5.1"}
        client = server.connect()
        await client.send(b"EHLO x\r\n" + error + b"BDAT 1000000 LAST\r\n")  # its octets are waited for
        for _ in range(4):
            await client.send(PIECE)
        await client.send(b"\r\nNOOP\r\n")
        await client.send(b"QUIT\r\n")
        said = await client.read_eof()
        assert said.endswith(b"221 2.0.0 Bye\r\n")
    assert server.messages == []


def test_refused_chunks_over_and_over_end() -> None:
    driver = Driver()
    driver.hears(b"EHLO x\r\n")
    for number in range(21):
        driver.hears(b"BDAT 1000000\r\n")
        for _ in range(4):
            driver.hears(b"x" * 250_000)
        assert driver.codes == [b"503" if number < 20 else b"421"]
    assert driver.connection.closed


# TLS that ends in the middle of a chunk


class Raw:
    """A client that holds the records itself, so that it can send what no TLS library would."""

    def __init__(self, stream: trio.abc.Stream, context: ssl.SSLContext) -> None:
        self.stream = stream
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    async def flush(self) -> None:
        await self.stream.send_all(self.outgoing.read())

    async def feed(self) -> None:
        self.incoming.write(bytes(await self.stream.receive_some(65536)))

    async def handshake(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.flush()
                await self.feed()
            else:
                await self.flush()
                return

    async def say(self, data: bytes) -> None:
        self.tls.write(data)
        await self.flush()

    async def read_until(self, end: bytes) -> bytes:
        said = b""
        while not said.endswith(end):
            try:
                said += self.tls.read(65536)
            except ssl.SSLWantReadError:
                await self.feed()
        return said


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("behind", [b"", b"x", b"x" * 90 + b"\r\nQUIT\r\n"])
async def test_close_notify_in_the_middle_of_a_chunk(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, behind: bytes, version: ssl.TLSVersion
) -> None:
    async with besieged(tmp_path, caplog) as fortress:
        fortress.client_tls.minimum_version = fortress.client_tls.maximum_version = version
        stream = await fortress.dial()
        client = ScriptedClient(stream)
        await client.read()
        assert (await client.command("STARTTLS")).code == 220
        raw = Raw(stream, fortress.client_tls)
        await raw.handshake()
        await raw.say(ENVELOPE)
        await raw.read_until(b"250 2.1.5 Recipient ok\r\n")
        raw.tls.write(b"BDAT 100 LAST\r\n0123456789")
        more = raw.outgoing.read()  # sent once more when TLS is over
        await stream.send_all(more)
        with suppress(ssl.SSLWantReadError):
            raw.tls.unwrap()
        with suppress(trio.BrokenResourceError):  # it may have closed already: what follows is for nobody
            await raw.flush()  # close_notify
            await stream.send_all(behind)
            await stream.send_all(more)
            while await stream.receive_some(65536):
                pass
        await stream.aclose()
        await fortress.quiet()
        assert fortress.messages == []
        assert set(fortress.ends) <= {"peer_closed", "protocol_error"}
