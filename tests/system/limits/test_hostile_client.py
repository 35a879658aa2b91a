"""Clients that send too much, too little, or the wrong thing: each is answered or cut off, and the server serves on."""

import tracemalloc
from pathlib import Path

import pytest
import trio
import trio.testing
from fortress import JUDGE, Fortress, besieged, reset

from triosmtp import Policy
from triosmtp.event import Disconnected
from triosmtp.policy import Session
from triosmtp.server.session.driver import SMTPSession
from triosmtp.sockets.peer import Peer
from triosmtp.testing import Authority, ScriptedClient, open_memory_server

PLAIN = 'Relay_Domains = ( "example.com" ) ESMTP_Listener { Listen ":25" { } }'


@pytest.mark.parametrize("tls", [False, True])
async def test_a_command_line_of_10_mb_is_discarded_as_it_arrives(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, tls: bool
) -> None:
    piece = b"MAIL FROM:<" + b"x" * 65_525
    async with besieged(tmp_path, caplog) as fortress:
        client = await fortress.connect(tls=tls)
        tracemalloc.start()
        for _ in range(160):
            await client.send(piece)
        await client.send(b"\r\nNOOP\r\n")
        assert [(await client.read()).code for _ in range(2)] == [500, 250]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        await client.aclose()
    assert peak < 2_000_000


FLOODS = {
    "noop": b"NOOP\r\n" * 1000,
    "ehlo": b"EHLO client.example.org\r\n" * 1000,
    "rcpt": b"MAIL FROM:<a@example.org>\r\n" + b"RCPT TO:<you@example.com>\r\n" * 900 + b"RSET\r\n",
    "message": b"MAIL FROM:<>\r\nRCPT TO:<you@example.com>\r\nDATA\r\nx: y\r\n\r\n.\r\n" * 100,
}


async def flood(fortress: Fortress, what: bytes, *, tls: bool) -> int:
    """Send without end and read nothing; return how much the server read before it closed the connection."""
    client = await fortress.connect(tls=tls)
    taken = 0
    with trio.fail_after(30):
        try:
            while True:
                await client.send(what)
                taken += len(what)
        except trio.BrokenResourceError:
            await client.aclose()
            return taken


@pytest.mark.parametrize("tls", [False, True])
async def test_a_peer_that_never_reads_is_not_listened_to_and_cut_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, tls: bool
) -> None:
    taken: dict[str, int] = {}

    async def run(name: str) -> None:
        taken[name] = await flood(fortress, FLOODS[name], tls=tls)

    options = "Max_Junk_Commands = 0 Idle_Time = 1 Tcp_Send_Buffer_Size = 16384 Tcp_Recv_Buffer_Size = 16384"
    async with besieged(tmp_path, caplog, options) as fortress:
        async with trio.open_nursery() as nursery:
            for name in FLOODS:
                nursery.start_soon(run, name)
        await fortress.quiet()
        assert fortress.ends == ["idle"] * len(FLOODS)
    # The size of the kernel's buffers on both sides, and of one read.
    assert {name: size for name, size in taken.items() if size > 16_000_000} == {}


@pytest.mark.parametrize("last", [b"NOOP", b"QUIT", b"STARTTLS", b"EHLO x\r\nNONSENSE"])
async def test_a_peer_that_does_not_read_the_last_replies_is_cut_off(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, last: bytes
) -> None:
    Authority.create().issue("localhost").write(tmp_path, "server")
    tls = f'{{ TLS_Certificate = "{tmp_path}/server.pem" TLS_Key = "{tmp_path}/server.key" Max_Command_Errors = 1'
    options = PLAIN.replace("{ }", tls + ' Idle_Time = 10 SMTP_Extensions = ( "STARTTLS" ) }')
    async with open_memory_server(options) as server:
        # A sender on these streams waits until all of it was read.
        ours, theirs = trio.testing.lockstep_stream_pair()
        listen = server.service.config.listens[0]
        profile = server.service.profiles.of(listen, server.service.config.resolve(listen, None))
        driver = SMTPSession(server.service, listen, profile, ours, Peer("p", None), "l")
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(driver.run)
                client = ScriptedClient(theirs)
                await client.read()
                await client.send(b"EHLO x\r\nNONSENSE\r\n" + last + b"\r\n")
        await client.aclose()
    assert [e.reason for e in server.events if isinstance(e, Disconnected)] == ["idle"]


async def test_one_octet_at_a_time() -> None:
    text = (
        b"EHLO client.example.org\r\nMAIL FROM:<me@example.org>\r\nRCPT TO:<you@example.com>\r\nDATA\r\n"
        b"Subject: slow\r\n\r\n..a\r\n.b\r\n.\r\nQUIT\r\n"
    )
    async with open_memory_server(PLAIN) as server:
        client = server.connect()
        for octet in text:
            await client.send(bytes([octet]))
            await trio.testing.wait_all_tasks_blocked()
        codes = [(await client.read()).code for _ in range(7)]
        assert codes == [220, 250, 250, 250, 354, 250, 221]
        assert await client.read_eof() == b""
    [message] = server.messages
    assert message.body == b"Subject: slow\r\n\r\n.a\r\nb\r\n"


BODY = b"Subject: x\r\n\r\n.\r\r\n..\r\n.x\r\n\r\n.\r\nNOOP\r\nQUIT\r\n"


async def test_the_end_of_data_is_found_wherever_the_reads_are_split() -> None:
    size = len(BODY)
    splits = [(a, b) for a in range(1, size) for b in range(a, size)]
    if not JUDGE:
        print(f"{len(splits[::8])} of {len(splits)} ways to split")
        splits = splits[::8]
    options = PLAIN.replace("{ }", "{ RFC2822_Lone_LF_In_Body = ignore }")
    async with open_memory_server(options) as server:
        for first, second in splits:
            client = server.connect()
            await client.send(b"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<you@example.com>\r\nDATA\r\n")
            assert [(await client.read()).code for _ in range(5)] == [220, 250, 250, 250, 354]
            for part in (BODY[:first], BODY[first:second], BODY[second:]):
                await client.send(part)
                await trio.testing.wait_all_tasks_blocked()
            assert [(await client.read()).code for _ in range(3)] == [250, 250, 221]
            assert server.messages.pop().body == b"Subject: x\r\n\r\n\r\r\n.\r\nx\r\n\r\n", (first, second)


async def test_a_thousand_recipients_at_once_and_one_more() -> None:
    async with open_memory_server(PLAIN) as server:
        client = server.connect()
        recipients = b"".join(b"RCPT TO:<user%d@example.com>\r\n" % number for number in range(1001))
        await client.send(b"EHLO c\r\nMAIL FROM:<>\r\n" + recipients + b"DATA\r\n")
        answers = [await client.read() for _ in range(1005)]
        assert [answer.code for answer in answers] == [220, 250, 250] + [250] * 1000 + [452, 354]
        assert str(answers[-2])[:9] == "452 4.5.3"
        await client.send(b"x: y\r\n\r\n.\r\n")
        assert (await client.read()).code == 250
    assert len(server.messages[0].recipients) == 1000


@pytest.mark.parametrize("size", ["2147483648", "52428801", "9" * 20])
async def test_a_size_that_is_too_large_is_refused_before_a_byte_of_it(size: str) -> None:
    async with open_memory_server(PLAIN) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO client.example.org")
        assert str(await client.command(f"MAIL FROM:<me@example.org> SIZE={size}"))[:9] == "552 5.3.4"
        assert (await client.command("MAIL FROM:<me@example.org> SIZE=52428800")).code == 250


async def test_a_body_beyond_the_limit_is_read_away_and_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with besieged(tmp_path, caplog, "Max_Message_Size = 2000000") as fortress:
        client = await fortress.connect()
        await client.send(b"MAIL FROM:<>\r\nRCPT TO:<you@example.com>\r\nDATA\r\n")
        assert [(await client.read()).code for _ in range(3)] == [250, 250, 354]
        for _ in range(200):
            await client.send((b"x" * 78 + b"\r\n") * 800)
            if list(fortress.spool.glob("*")):
                raise AssertionError("a spool file has a name")
        await client.send(b".\r\nNOOP\r\n")
        assert str(await client.read())[:9] == "552 5.3.4"
        assert (await client.read()).code == 250
        await client.aclose()


class Starter(Policy):
    """Lets a second client speak when the first one has begun, and notes whose turn it is."""

    def __init__(self) -> None:
        self.began = trio.Event()
        self.turns: list[str] = []

    async def validate_ehlo(self, session: Session, domain: str) -> None:
        self.turns.append(domain)
        if domain == "greedy.example":
            self.began.set()


@pytest.mark.parametrize("before", [b"", b"MAIL FROM:<>\r\nRCPT TO:<you@example.com>\r\nDATA\r\n"])
async def test_a_long_pipelined_group_leaves_others_their_turn(before: bytes) -> None:
    policy = Starter()
    async with open_memory_server(PLAIN, policy=policy) as server:
        greedy, modest = server.connect(), server.connect()
        await greedy.send(b"EHLO x\r\n" + before)
        await modest.read()
        await trio.testing.wait_all_tasks_blocked()
        await greedy.send((b"x: y\r\n\r\n.\r\n" if before else b"") + b"EHLO greedy.example\r\n" * 12_000)
        await policy.began.wait()
        await modest.command("EHLO modest.example")
        assert policy.turns.index("modest.example") < 2_000
        await greedy.aclose()
        await modest.aclose()


async def test_an_empty_and_a_half_closed_connection(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with besieged(tmp_path, caplog) as fortress:
        for use_ssl in (False, True):
            for goodbye in (b"", b"QUIT\r\n", b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<you@example.com>\r\nDATA\r\nhalf"):
                stream = await fortress.dial(use_ssl=use_ssl)
                if goodbye:
                    await stream.send_all(goodbye)
                await stream.send_eof()
                await ScriptedClient(stream).read_eof()
                await trio.aclose_forcefully(stream)
        for _ in range(50):
            reset(await fortress.dial())
        await fortress.quiet()
    assert len([e for e in fortress.events if isinstance(e, Disconnected)]) >= 56
