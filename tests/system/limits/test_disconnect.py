"""Peers that go away at every point of a dialogue, and many at once: nothing of them is left."""

import ssl
from pathlib import Path

import pytest
import trio
import trio.testing
from fortress import JUDGE, Fortress, besieged, reset

from triosmtp.testing import ScriptedClient

GREETING = b"EHLO client.example.org\r\n"
ENVELOPE = b"MAIL FROM:<me@example.org> SIZE=100\r\nRCPT TO:<you@example.com>\r\nDATA\r\n"
DIALOGUE = GREETING + ENVELOPE + b"Subject: x\r\n\r\n..\r\n.\r\nRSET\r\nQUIT\r\n"
LARGE = (b"x" * 78 + b"\r\n") * 12_000


def chosen(points: range, share: int) -> list[int]:
    """Return all points when judged, else a share of them."""
    taken = list(points if JUDGE else points[::share])
    print(f"{len(taken)} of {len(points)} points")
    return taken


@pytest.mark.parametrize("how", ["close", "half-close", "reset"])
async def test_after_each_octet_of_a_dialogue(tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str) -> None:
    async with besieged(tmp_path, caplog) as fortress:
        for end in chosen(range(len(DIALOGUE) + 1), 3):
            stream = await fortress.dial()
            await stream.send_all(DIALOGUE[:end])
            await leave(stream, how)
        await fortress.quiet()
        assert set(fortress.ends) <= {"peer_closed", "quit"}
        assert len(fortress.sessions) == len(fortress.ends)
        # A peer that is gone before it could read the 250 may well have got its mail through; one cut short has not.
        assert all(body == b"Subject: x\r\n\r\n.\r\n" for body in fortress.messages)
        if how == "half-close":
            whole = DIALOGUE.index(b"RSET")
            assert len(fortress.messages) == len([end for end in chosen(range(len(DIALOGUE) + 1), 3) if end >= whole])


async def leave(stream: trio.SocketStream, how: str) -> None:
    if how == "half-close":
        await stream.send_eof()
        await ScriptedClient(stream).read_eof()
    if how == "reset":
        reset(stream)
    else:
        await trio.aclose_forcefully(stream)


@pytest.mark.parametrize("use_ssl", [False, True])
async def test_after_each_octet_of_a_handshake_and_what_follows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, use_ssl: bool
) -> None:
    async with besieged(tmp_path, caplog) as fortress:
        length = await say_over_tls(fortress, use_ssl, None)
        ends = chosen(range(length), 16)
        for end in ends:
            await say_over_tls(fortress, use_ssl, end)
        await fortress.quiet()
        assert len(fortress.ends) == len(ends) + 1
        assert set(fortress.ends) <= {"peer_closed", "tls_failed", "quit"}
        assert fortress.server.statistics.handshakes_failed > 0


async def say_over_tls(fortress: Fortress, use_ssl: bool, end: int | None) -> int:
    """Send all of the dialogue over TLS, and hang up after `end` octets of ciphertext; return how many there were."""
    stream = await fortress.dial(use_ssl=use_ssl)
    client = ScriptedClient(stream)
    if not use_ssl:
        await client.read()
        await client.command("EHLO client.example.org")
        await client.command("STARTTLS")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = fortress.client_tls.wrap_bio(incoming, outgoing, server_hostname="localhost")
    sent, said = 0, False
    try:
        while True:
            try:
                if not said:
                    tls.do_handshake()
                    tls.write(DIALOGUE)
                    said = True
                while tls.read(4096):
                    pass
                return sent
            except ssl.SSLWantReadError:
                pass
            data = outgoing.read()
            if end is not None and sent + len(data) >= end:
                await stream.send_all(data[: end - sent])
                return end
            sent += len(data)
            await stream.send_all(data)
            answer = await stream.receive_some(65536)
            if not answer:
                return sent
            incoming.write(answer)
    finally:
        await trio.aclose_forcefully(stream)


async def test_in_the_middle_of_a_body_that_is_in_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with besieged(tmp_path, caplog) as fortress:
        for number in range(30 if JUDGE else 6):
            stream = await fortress.dial()
            await stream.send_all(GREETING + ENVELOPE + LARGE[: len(LARGE) - number])
            if number % 2:
                await ScriptedClient(stream).read()
            await leave(stream, ("close", "reset", "half-close")[number % 3])
        assert fortress.messages == []


async def test_200_connections_at_once_open_speak_and_go(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rounds = 5 if JUDGE else 1
    together = trio.Event()

    async def come_and_go(number: int) -> None:
        stream = await fortress.dial(use_ssl=number % 3 == 0)
        await together.wait()
        if number % 5:
            await stream.send_all(DIALOGUE)
        if number % 7 == 0 and number % 3:
            await stream.receive_some()
        await leave(stream, ("close", "reset")[number % 2])

    async with besieged(tmp_path, caplog, "TLS_Handshakes_Max = 1000") as fortress:  # all are of one address
        for _ in range(rounds):
            together = trio.Event()
            async with trio.open_nursery() as nursery:
                for number in range(200):
                    nursery.start_soon(come_and_go, number)
                with trio.fail_after(30):
                    while fortress.server.statistics.sessions < 200:
                        await trio.testing.wait_all_tasks_blocked(0.001)
                together.set()
            await fortress.quiet()
        assert len(set(fortress.sessions)) == 200 * rounds
