"""Pass-through to Dovecot's lmtpd: the client's answer and the mailbox agree."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from cutting_proxy import CuttingProxy, Direction, cutting_proxy
from listen_server import connect, serving
from private_dovecot import Dovecot, running_dovecot

from triosmtp import Server
from triosmtp.testing import ScriptedClient

JUDGE = os.environ.get("TRIOSMTP_JUDGE") == "1"
LOOSE = "RFC2822_Lone_LF_In_Body = ignore RFC2822_Lone_LF_In_Headers = ignore"
SENDER = "joe@example.org"
BODY = b"From: joe@example.org\r\nDate: Mon, 30 Nov 2026 12:00:00 +0000\r\nSubject: test\r\n\r\n"


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    with running_dovecot() as running:
        yield running


@pytest.fixture(autouse=True)
def empty(dovecot: Dovecot) -> None:
    dovecot.clear()


def conf(socket: Path, options: str = "", delivery: str = "") -> str:
    return f"""
Relay_Domains = ( "example.com" )
Deliver_To = "dovecot"
Delivery "dovecot" {{ Deliver_To = "lmtp:{socket}" {delivery} }}
ESMTP_Listener {{ Listen "127.0.0.1:0" {{ {options} }} }}
"""


@asynccontextmanager
async def session(socket: Path, options: str = "", delivery: str = "") -> AsyncIterator[tuple[Server, ScriptedClient]]:
    async with serving(conf(socket, options, delivery), deliver=None) as server:
        client = await connect(server)
        assert (await client.read()).code == 220
        await client.command("EHLO client.example.org")
        yield server, client


async def test_accepted(dovecot: Dovecot) -> None:
    body = BODY + b"..one\r\n.\r\n\xfctwo\r\n"
    async with session(dovecot.socket) as (_, client):
        assert (await client.message(SENDER, ["a@example.com", "B@example.com"], body)).code == 250
        assert (await client.message("", ["a@example.com"], BODY)).code == 250
    first = next(each for each in dovecot.messages("a") if each.startswith(b"Return-Path: <joe@example.org>"))
    assert first.replace(b"\n", b"\r\n").endswith(body)
    assert b"\nReceived: from client.example.org" in first
    assert len(dovecot.messages("a")) == 2
    assert len(dovecot.messages("b")) == 1


async def test_refused_at_rcpt(dovecot: Dovecot) -> None:
    async with session(dovecot.socket) as (_, client):
        answer = await client.message(SENDER, ["nobody@example.com"], BODY)
        assert (answer.code, answer.text) == (
            550, "5.1.1 <nobody@example.com> User doesn't exist: nobody@example.com",
        )  # fmt: skip
        assert (await client.command("RCPT TO:<a@example.com>")).code == 250
        assert (await client.command("DATA")).code == 354
        await client.send(BODY + b"x\r\n.\r\n")
        assert (await client.read()).code == 250
    assert len(dovecot.messages("a")) == 1


async def test_refused_after_the_body(dovecot: Dovecot) -> None:
    async with session(dovecot.socket) as (_, client):
        answer = await client.message(SENDER, ["full@example.com"], BODY)
        assert (answer.code, answer.text[:31]) == (552, "5.2.2 <full@example.com> Quota ")
        answer = await client.message(SENDER, ["a@example.com", "full@example.com"], BODY)
        assert answer.code == 554
        assert "1 of 2 recipients refused" in answer.text
    assert len(dovecot.messages("a")) == 1
    assert not dovecot.messages("full")


async def test_without_verification_all_answers_come_after_the_body(dovecot: Dovecot) -> None:
    async with session(dovecot.socket, delivery="Verify_Recipients = false") as (_, client):
        await client.command(f"MAIL FROM:<{SENDER}>")
        assert (await client.command("RCPT TO:<nobody@example.com>")).code == 250
        await client.command("DATA")
        await client.send(BODY + b"x\r\n.\r\n")
        answer = await client.read()
        assert (answer.code, answer.text[:5]) == (550, "5.1.1")


async def test_the_relay_rules_speak_first(dovecot: Dovecot, tmp_path: Path) -> None:
    async with cutting_proxy(tmp_path / "proxy", dovecot.socket) as proxy, session(tmp_path / "proxy") as (_, client):
        while not proxy.connections:  # the one that learns the extensions
            await trio.testing.wait_all_tasks_blocked(0.001)
        passed = proxy.passed
        await client.command(f"MAIL FROM:<{SENDER}>")
        assert (await client.command("RCPT TO:<a@elsewhere.example>")).code == 550
        assert proxy.connections == 1
        assert proxy.passed - passed <= len("LHLO mx.example.com\r\n") + 64, "no recipient was asked for"


ENDS = [
    b"\r\n.\r\n", b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r.\r\n", b"\n.\r", b"\r.\n",
    b"\r\r\n.\r\n", b"\r\n.\r\r\n", b"\r\n\0.\r\n", b"\n\n.\n\n", b"\n..\n",
]  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
async def test_smuggling_on_the_second_leg(dovecot: Dovecot, end: bytes) -> None:
    """The listener lets lone CRs and LFs in: a variant of the end of data arrives as one message, or not at all."""
    is_end = b"\r\n.\r\n" in end  # RFC 5321, section 4.1.1.4
    forged = b"MAIL FROM:<forged@example.org>\r\nRCPT TO:<a@example.com>\r\nDATA\r\nSubject: forged\r\n\r\nx\r\n"
    async with session(dovecot.socket, LOOSE) as (_, client):
        for line in (f"MAIL FROM:<{SENDER}>", "RCPT TO:<a@example.com>", "DATA"):
            await client.command(line)
        await client.send(BODY + b"first" + end + forged + b".\r\n")
        codes = [(await client.read()).code]
        if is_end:  # the rest are commands of this client
            codes += [(await client.read()).code for _ in range(4)]
            assert codes == [250, 250, 250, 354, 250]
    messages = dovecot.messages("a")
    assert len(messages) == (2 if is_end else codes.count(250))
    if not is_end:
        assert all(b"MAIL FROM:<forged@example.org>" in each for each in messages)


async def cut(server: Server, proxy: CuttingProxy, dovecot: Dovecot, limit: int) -> tuple[int, int]:
    """Send a message through a proxy with this limit; return the client's answer, and the messages in the mailbox."""
    dovecot.clear()
    proxy.limit = limit
    client = await connect(server)
    await client.read()
    await client.command("EHLO client.example.org")
    answer = await client.message(SENDER, ["a@example.com"], BODY + b"text\r\n")
    await client.command("QUIT")
    return answer.code, len(dovecot.messages("a"))


@pytest.mark.parametrize("direction", ["to", "from"])
async def test_a_connection_that_is_cut_after_n_octets(dovecot: Dovecot, direction: Direction, tmp_path: Path) -> None:
    """250: it is there once.  451: it is not there, unless only its answer was lost."""
    path = tmp_path / "proxy"
    once = "Max_Deliveries_Per_Connection = 1"
    async with cutting_proxy(path, dovecot.socket) as proxy, session(path, delivery=once) as (server, _):
        proxy.direction = direction
        for _ in range(2):  # the server's own first connection is over then
            assert await cut(server, proxy, dovecot, 1 << 20) == (250, 1)
        total = proxy.passed
        found = {}
        for limit in range(0, total, 1 if JUDGE else 29):
            code, messages = found[limit] = await cut(server, proxy, dovecot, limit)
            if limit >= total - 8 and code == 250:  # ids of sessions vary in length: nothing was cut
                assert messages == 1
                del found[limit]
                continue
            assert code == 451, limit
            if direction == "to":
                assert messages == 0, limit
        if direction == "from":
            lost = [limit for limit, (_, messages) in found.items() if messages]
            assert all(messages <= 1 for _, messages in found.values())
            assert lost == [limit for limit in found if limit >= min(lost, default=total)], "only the last answer"
        assert await cut(server, proxy, dovecot, 1 << 20) == (250, 1)


async def test_a_used_connection_that_is_cut_is_replaced(dovecot: Dovecot, tmp_path: Path) -> None:
    """Up to the reply to DATA nobody notices; then the hop may have the message, and the client tries again."""
    path = tmp_path / "proxy"
    async with cutting_proxy(path, dovecot.socket) as proxy, session(path) as (server, _):
        assert await cut(server, proxy, dovecot, 1 << 20) == (250, 1)
        before = proxy.passed
        assert await cut(server, proxy, dovecot, 1 << 20) == (250, 1)
        commands = len(f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<a@example.com>\r\nDATA\r\n")
        for limit in range(0, proxy.passed - before, 1 if JUDGE else 37):
            connections, at = proxy.connections, proxy.passed + limit
            expected = {(250, 1)} if limit < commands else {(451, 0)}
            assert await cut(server, proxy, dovecot, at) in expected, limit
            assert proxy.connections - connections == (limit < commands), limit
            proxy.limit = None
            assert await cut(server, proxy, dovecot, 1 << 20) == (250, 1)
