"""Limits that end what goes on for too long, too slowly or too often: on a clock that nobody waits for."""

from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import trio
import trio.testing

import triosmtp
from triosmtp.event import ConnectionRefused, Disconnected, Refused
from triosmtp.limits.peer_count import PeerCounts, PeerTable, peer_key
from triosmtp.testing import MemoryServer, ScriptedClient, open_memory_server

CONF = """
Relay_Domains = ( "example.com" "secret.example" )
Banner_Hostname = "mx.example.com"
{more}
ESMTP_Listener {{ Listen ":25" {{ }} }}
"""


def conf(more: str) -> str:
    return CONF.format(more=more)


async def hello(server: MemoryServer, peer: str = "192.0.2.1") -> ScriptedClient:
    client = server.connect(peer=peer)
    await client.read()
    await client.command("EHLO x")
    return client


async def in_data(server: MemoryServer) -> ScriptedClient:
    client = await hello(server)
    await client.command("MAIL FROM:<a@example.org>")
    await client.command("RCPT TO:<b@example.com>")
    assert (await client.command("DATA")).code == 354
    return client


async def trickle(client: ScriptedClient, octet: bytes) -> None:
    """Send one octet a second until the server has had enough."""
    with suppress(trio.BrokenResourceError):
        for _ in range(1000):
            await client.send(octet)
            await trio.sleep(1)
        pytest.fail("the server puts up with anything")


def ends(server: MemoryServer) -> list[str]:
    return [event.reason for event in server.events if isinstance(event, Disconnected)]


async def test_one_octet_a_second_is_too_slow_for_a_message(autojump_clock: trio.testing.MockClock) -> None:
    async with open_memory_server(conf("")) as server:
        client = await in_data(server)
        began = trio.current_time()
        await trickle(client, b"x")
        assert 30 <= trio.current_time() - began < 40
        assert (await client.read_eof()).startswith(b"421 4.4.2 The message arrives too slowly")
    assert ends(server) == ["slow"]


async def test_a_rate_that_is_enough_is_never_too_slow(autojump_clock: trio.testing.MockClock) -> None:
    async with open_memory_server(conf("Min_Data_Rate = 64 Max_Message_Size = 0")) as server:
        client = await in_data(server)
        for _ in range(300):
            await client.send(b"x" * 98 + b"\r\n")
            await trio.sleep(1)
        await client.send(b".\r\n")
        assert (await client.read()).code == 250
        await client.aclose()
    async with open_memory_server(conf("Min_Data_Rate = 0")) as server:
        client = await in_data(server)
        for _ in range(300):
            await client.send(b"x")
            await trio.sleep(1)
        await client.send(b"\r\n.\r\n")
        assert (await client.read()).code == 250


@pytest.mark.parametrize("size", [0, 100, 1_500_000])
async def test_a_client_may_be_silent_in_a_message(autojump_clock: trio.testing.MockClock, size: int) -> None:
    """RFC 5321, section 4.5.3.2: minutes. It may be looking for the rest of the message, or at what it has sent."""
    pieces = [b"Subject: x\r\n\r\n" + b"x" * size, b"\r\nx", b"x", b"\r\n.\r\n"]
    async with open_memory_server(conf("SMTP_Extensions = ( CHUNKING )")) as server:
        client = await in_data(server)
        for piece in pieces:
            await trio.sleep(215)
            await client.send(piece)
        assert (await client.read()).code == 250
        await client.command("MAIL FROM:<a@example.org>")
        await client.command("RCPT TO:<b@example.com>")
        for piece in [*pieces[:-1], b"\r\n"]:
            await trio.sleep(215)
            await client.send(b"BDAT %d\r\n" % len(piece) + piece[:1])
            await trio.sleep(4)
            await client.send(piece[1:])
            assert (await client.read()).code == 250
        await trio.sleep(20)
        assert (await client.command("BDAT 0 LAST")).code == 250
        await client.command("QUIT")
    assert ends(server) == ["quit"]


@pytest.mark.parametrize("gap", [4, 6, 40, 280])
@pytest.mark.parametrize("chunks", [False, True])
async def test_a_message_that_drips_ends(autojump_clock: trio.testing.MockClock, gap: int, chunks: bool) -> None:
    more = "Max_Junk_Commands = 0 SMTP_Extensions = ( CHUNKING ENHANCEDSTATUSCODES )"
    async with open_memory_server(conf(more)) as server:
        client = await in_data(server) if not chunks else await hello(server)
        if chunks:
            await client.command("MAIL FROM:<a@example.org>")
            await client.command("RCPT TO:<b@example.com>")
        began = trio.current_time()
        with suppress(trio.BrokenResourceError):
            for _ in range(1000):
                await client.send(b"BDAT 1\r\nx" if chunks else b"x")
                await trio.sleep(gap)
            pytest.fail("the server puts up with anything")
        took = trio.current_time() - began
        assert took < 45 if gap < 5 else 900 < took < 900 + 2 * gap + 40
        assert b"421 4.4.2 The message arrives too slowly" in await client.read_eof()
    assert ends(server) == ["slow"]


async def test_the_silences_of_one_message_are_not_the_next_ones(autojump_clock: trio.testing.MockClock) -> None:
    async with open_memory_server(conf("SMTP_Extensions = ( CHUNKING )")) as server:
        client = await hello(server)
        for _ in range(10):
            await client.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nBDAT 9\r\nSubject: ")
            for _ in range(3):
                assert (await client.read()).code == 250
            await trio.sleep(250)
            await client.send(b"BDAT 5 LAST\r\nx\r\n\r\n")
            assert (await client.read()).code == 250
        await client.command("QUIT")
    assert ends(server) == ["quit"]


async def test_a_command_octet_by_octet_gains_no_time(autojump_clock: trio.testing.MockClock) -> None:
    async with open_memory_server(conf("Idle_Time = 20")) as server:
        client = await hello(server)
        began = trio.current_time()
        await trickle(client, b"N")
        assert trio.current_time() - began < 25
        assert b"421 4.4.2 Idle" in await client.read_eof()
        client = await hello(server)
        for _ in range(10):  # but whole commands have their time each
            await trio.sleep(15)
            assert (await client.command("NOOP")).code == 250


async def test_chunks_are_a_message_all_the_same(autojump_clock: trio.testing.MockClock) -> None:
    more = "Min_Data_Rate = 1000 Max_Junk_Commands = 0 SMTP_Extensions = ( CHUNKING )"
    async with open_memory_server(conf(more)) as server:
        client = await hello(server)
        await client.command("MAIL FROM:<a@example.org>")
        await client.command("RCPT TO:<b@example.com>")
        began = trio.current_time()
        with suppress(trio.BrokenResourceError):
            for _ in range(1000):
                await client.send(b"BDAT 1\r\nx")
                assert (await client.read()).code == 250
                await trio.sleep(1.5)
            pytest.fail("the server puts up with anything")
        assert 30 <= trio.current_time() - began < 40
        assert b"421 " in await client.read_eof()
    assert ends(server) == ["slow"]


async def test_a_message_in_progress_is_finished_beyond_the_session_limit(
    autojump_clock: trio.testing.MockClock,
) -> None:
    taken: list[str] = []

    async def deliver(message: triosmtp.Message) -> None:
        await trio.sleep(200)
        taken.append(message.id)

    async with open_memory_server(conf("Max_Session_Time = 100"), deliver=deliver) as server:
        client = await hello(server)
        assert (await client.message("a@example.org", ["b@example.com"], b"x: y\r\n")).code == 250
        assert (await client.read_eof()).startswith(b"421 ")
    assert len(taken) == 1
    assert ends(server) == ["max_session_time"]


async def test_no_session_lasts_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    async with open_memory_server(conf("Max_Session_Time = 100 Max_Junk_Commands = 0")) as server:
        client = await hello(server)
        while True:
            answer = await client.command("NOOP")
            if answer.code != 250:
                break
            await trio.sleep(5)
        assert str(answer) == "421 4.4.2 The connection has lasted too long"
        assert 100 <= trio.current_time() < 110
        await client.read_eof()
    assert ends(server) == ["max_session_time"]


async def test_a_client_that_sends_before_the_banner_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    async with open_memory_server(conf("Banner_Delay = 5")) as server:
        early, late = server.connect(), server.connect()
        await early.send(b"EHLO x\r\n")
        assert str(await early.read()) == "554 You spoke before the banner"
        assert trio.current_time() < 1
        assert (await late.read()).code == 220
        assert trio.current_time() == pytest.approx(5)
        assert (await late.command("EHLO x")).code == 250


async def test_junk_and_refused_recipients_have_an_end() -> None:
    async with open_memory_server(conf("Max_Junk_Commands = 3 Max_Refused_Recipients = 2")) as server:
        client = await hello(server)  # EHLO is one of them
        assert [(await client.command(line)).code for line in ("NOOP", "RSET", "VRFY x")] == [250, 250, 421]
        client = await hello(server)
        await client.command("MAIL FROM:<a@example.org>")
        codes = [(await client.command("RCPT TO:<x@elsewhere.example>")).code for _ in range(3)]
        assert codes == [550, 550, 421]
        client = await hello(server)
        for _ in range(3):  # a message that is taken makes up for them
            assert (await client.message("a@example.org", ["b@example.com"], b"x: y\r\n")).code == 250
            assert (await client.command("NOOP")).code == 250
    assert [event.decided_by for event in server.events if isinstance(event, Refused)][-1] == "limit"


async def test_the_first_recipients_are_accepted_when_the_rest_gets_452() -> None:
    async with open_memory_server(conf("Max_Refused_Recipients = 2 Max_Recipients_Per_Message = 3")) as server:
        client = await hello(server)
        lines = ["MAIL FROM:<a@example.org>", *["RCPT TO:<b@example.com>"] * 100, "DATA"]
        await client.send("".join(f"{line}\r\n" for line in lines).encode())
        codes = [(await client.read()).code for _ in lines]
        assert codes == [250] * 4 + [452] * 97 + [354]
        await client.send(b"x: y\r\n\r\n.\r\n")
        assert (await client.read()).code == 250
        await client.command("MAIL FROM:<a@example.org>")
        codes = [(await client.command("RCPT TO:<b@example.com>")).code for _ in range(204)]
        assert codes == [250] * 3 + [452] * 200 + [421], "not for ever"


async def test_rates_of_one_address(autojump_clock: trio.testing.MockClock) -> None:
    more = 'Inbound_Throttle_Messages = "2/60" Recipient_Rate_Per_Peer = "3/60"'
    async with open_memory_server(conf(more)) as server:
        client, other = await hello(server), await hello(server, "192.0.2.9")
        for _ in range(2):
            assert (await client.message("a@example.org", ["b@example.com"], b"x: y\r\n")).code == 250
        answer = await (await hello(server)).command("MAIL FROM:<a@example.org>")
        assert str(answer) == "450 4.7.1 Too much mail for now, try again later"
        await other.command("MAIL FROM:<a@example.org>")
        codes = [(await other.command("RCPT TO:<b@example.com>")).code for _ in range(4)]
        assert codes == [250, 250, 250, 450]
        await trio.sleep(60)
        assert (await client.command("MAIL FROM:<a@example.org>")).code == 250


PROXY = 'Proxy_Protocol = ( "198.51.100.9" )'


@pytest.mark.parametrize(
    ("more", "peer", "bounded"),
    [
        ("", "192.0.2.1", True),
        ("", "2001:db8::1", True),
        ("", "127.0.0.1", False),
        ("", "::1", False),
        ('Relay_Hosts = ( "192.0.2.0/24" )', "192.0.2.1", False),
        ('Relay_Hosts = ( "192.0.2.0/24" )', "192.0.3.1", True),
        ('ESMTP_Listener { Listen ":26" { Peer "192.0.2.1" { SMTP_Extensions = ( XCLIENT ) } } }', "192.0.2.1", False),
        ("Connections_Per_Peer = 50", "127.0.0.1", True),
        ("Connections_Per_Peer = auto", "192.0.2.1", True),
        ("Connections_Per_Peer = 0", "192.0.2.1", False),
        (PROXY, "PROXY TCP4 192.0.2.7 192.0.2.8 9 25\r\n", True),
        (PROXY, "PROXY TCP4 127.0.0.1 192.0.2.8 9 25\r\n", False),
        (PROXY, "PROXY UNKNOWN\r\n", False),
    ],
)
async def test_an_address_has_fifty_connections(more: str, peer: str, bounded: bool) -> None:
    """Not loopback, nor whom others are behind; a proxy's clients are counted, and it is not."""
    async with open_memory_server(conf(more)) as server:
        codes = []
        for _ in range(52):
            listen = ":26" if ":26" in more else None
            client = server.connect(peer="198.51.100.9" if peer.startswith("PROXY") else peer, listen=listen)
            if peer.startswith("PROXY"):
                await client.send(peer.encode())
            codes.append((await client.read()).code)
        assert codes == [220] * 50 + [421 if bounded else 220] * 2


async def test_connections_of_one_address(autojump_clock: trio.testing.MockClock) -> None:
    async with open_memory_server(conf("Connections_Per_Peer = 2")) as server:
        first, _second = [await hello(server, "2001:db8::1") for _ in range(2)]
        refused = server.connect(peer="2001:db8::2")  # of the same /64
        assert (await refused.read()).code == 421
        assert (await server.connect(peer="2001:db8:0:1::1").read()).code == 220
        await first.command("QUIT")
        await trio.testing.wait_all_tasks_blocked()
        assert (await server.connect(peer="2001:db8::2").read()).code == 220
    assert [e.reason for e in server.events if isinstance(e, ConnectionRefused)] == ["Connections_Per_Peer"]
    async with open_memory_server(conf('Connection_Rate_Per_Peer = "1/10"')) as server:
        for code in (220, 421):
            assert (await server.connect().read()).code == code
        await trio.sleep(10)
        assert (await server.connect().read()).code == 220


def test_tables_are_bounded_and_counts_are_released() -> None:
    table = PeerTable(size=100)
    addresses = [IPv4Address(number) for number in range(1000)]
    assert all(table.count(address, (1, 60), 0) for address in addresses)
    assert len(table._windows) == 100
    assert not table.count(addresses[-1], (1, 60), 1)
    counts = PeerCounts()
    key = peer_key(addresses[0])
    assert counts.connect(key, 1)
    assert not counts.connect(key, 1)
    counts.disconnect(key)
    assert not counts._connections
    assert counts.connect(key, 1)
    assert counts.count("x", None, (1, 1), 0)
    assert counts.count("x", addresses[0], None, 0)
    assert len(counts._connections) == 1


async def test_tls_is_demanded_for_all_or_for_some(tmp_path: Path) -> None:
    triosmtp.testing.Authority.create().issue("localhost").write(tmp_path, "server")
    tls = f'TLS_Certificate = "{tmp_path}/server.pem" TLS_Key = "{tmp_path}/server.key" '
    tls += 'SMTP_Extensions = ( "STARTTLS" "ENHANCEDSTATUSCODES" ) '
    async with open_memory_server(conf(tls + "Require_TLS = true")) as server:
        client = await hello(server)
        assert str(await client.command("MAIL FROM:<>")) == "530 5.7.0 Must issue a STARTTLS command first"
        assert (await client.command("NOOP")).code == 250
    async with open_memory_server(conf(tls + 'Require_TLS_For = ( "secret.example" )')) as server:
        client = await hello(server)
        assert (await client.command("MAIL FROM:<>")).code == 250
        assert (await client.command("RCPT TO:<b@secret.example>")).code == 530
        assert (await client.command("RCPT TO:<b@example.com>")).code == 250
    with pytest.raises(triosmtp.ConfigError, match="Require_TLS: nobody could come in: STARTTLS is not offered"):
        triosmtp.parse_config(conf("Require_TLS = true"))


TEN = "RFC2822_Max_Line_Length = 10"
LOOP = b"".join(b"Received: from a by b; x\r\n" for _ in range(101))


@pytest.mark.parametrize(
    ("more", "body", "code", "arrived"),
    [
        ("", LOOP + b"\r\n", 554, b""),
        ("Max_Received_Headers = 0", LOOP + b"\r\n", 250, LOOP + b"\r\n"),
        ("", LOOP[26:] + b"\r\nReceived: x\r\n", 250, LOOP[26:] + b"\r\nReceived: x\r\n"),
        ("", b"no header\r\n", 250, b"no header\r\n"),
        ("RFC2822_Missing_Headers = reject", b"no header\r\n", 550, b""),
        ("RFC2822_Missing_Headers = reject", b"\r\nbody\r\n", 550, b""),
        ("RFC2822_Missing_Headers = reject", b"X: y\r\n\r\n", 250, b"X: y\r\n\r\n"),
        ("RFC2822_Max_Line_Length = 10", b"X: 89012345\r\n", 250, b"X: 89012345\r\n"),
        (f"{TEN} RFC2822_Max_Line_Length_Policy = reject", b"X: 8901234\r\n", 250, b"X: 8901234\r\n"),
        (f"{TEN} RFC2822_Max_Line_Length_Policy = reject", b"X: 89012345\r\n", 550, b""),
        (
            f"{TEN} RFC2822_Max_Line_Length_Policy = fix",
            b"X: y\r\n\r\n0123456789abcdefghijK\r\n", 250, b"X: y\r\n\r\n0123456789\r\n abcdefghij\r\n K\r\n",
        ),
    ],
)  # fmt: skip
async def test_options_for_the_form_of_a_message(more: str, body: bytes, code: int, arrived: bytes) -> None:
    async with open_memory_server(conf(more)) as server:
        client = await hello(server)
        assert (await client.message("a@example.org", ["b@example.com"], body)).code == code
    assert [message.body for message in server.messages] == ([arrived] if arrived else [])


async def test_expn_and_vrfy_disclose_nothing() -> None:
    async with open_memory_server(conf("")) as server:
        client = await hello(server)
        answers = {(await client.command(f"VRFY {who}@example.com")).text for who in ("root", "nobody-at-all")}
        assert len(answers) == 1
        assert (await client.command("EXPN staff")).code == 502


async def test_limits_are_released_with_their_sessions(tmp_path: Path) -> None:
    config = triosmtp.parse_config(
        'Connections_Per_Peer = 5 ESMTP_Listener { Listen "127.0.0.1:0" { } } Deliver_To = "discard:"'
    )
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(triosmtp.serve, config))
        for _ in range(20):
            client = ScriptedClient(await trio.open_tcp_stream(*server.addresses["127.0.0.1:0"]))
            assert (await client.read()).code == 220
            await client.command("QUIT")
            await client.read_eof()
            await client.aclose()
            while server.statistics.sessions:
                await trio.testing.wait_all_tasks_blocked(0.001)
        await server.aclose()
