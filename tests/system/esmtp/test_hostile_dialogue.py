"""Dialogues that other servers handled wrongly: refused data must not affect any later command.

Each runs against the sans-io core, a server in memory, and processes with workers and without.  After each of them the
same session sends a normal message, and nothing else is delivered.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
import trio
from esmtp_process import esmtp_server

from triosmtp.smtp import (
    NEED_DATA,
    Bdat,
    BodyChunk,
    BodyEnd,
    Connection,
    ConnectionEnded,
    ConnectionSettings,
    Data,
    MailFrom,
    SwitchToTLS,
)
from triosmtp.testing import ScriptedClient, open_memory_server

Step: TypeAlias = tuple[bytes, list[int]]
"""The data that is sent, and the codes of the expected replies."""

HONEST = b"Subject: honest\r\n\r\nx\r\n"
ENVELOPE: Step = (b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n", [250, 250])
MESSAGE: list[Step] = [ENVELOPE, (b"DATA\r\n", [354]), (HONEST + b".\r\n", [250]), (b"QUIT\r\n", [221])]
EVIL = b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nSubject: evil\r\n\r\n.\r\n"
NO_TRANSACTION: list[Step] = [
    (b"DATA\r\n", [503]),
    (b"BDAT 3\r\nabc", [503]),
    (b"BDAT 0 LAST\r\n", [503]),
    (b"RCPT TO:<b@example.com>\r\n", [503]),
    (b"BDAT %d LAST\r\n%s" % (len(EVIL), EVIL), [503]),
]
DIALOGUES: dict[str, list[Step]] = {
    "BDAT without MAIL": [*NO_TRANSACTION, *NO_TRANSACTION],
    "BDAT without RCPT": [
        (b"MAIL FROM:<a@example.org>\r\n", [250]),
        (b"BDAT 3 LAST\r\nabc", [503]),
        (b"BDAT %d\r\n%s" % (len(EVIL), EVIL), [503]),
        (b"RSET\r\n", [250]),
    ],
    "BDAT refused, then DATA without MAIL": [
        ENVELOPE,
        (b"BDAT 3\r\na\nb", [550]),  # a lone line feed
        *NO_TRANSACTION,
    ],
    "BDAT LAST refused, then DATA without MAIL": [ENVELOPE, (b"BDAT 3 LAST\r\na\nb", [550]), *NO_TRANSACTION],
    "the second BDAT refused": [ENVELOPE, (b"BDAT 3\r\nabc", [250]), (b"BDAT 1\r\n\n", [550]), *NO_TRANSACTION],
    "BDAT, then DATA": [
        ENVELOPE,
        (b"BDAT 3\r\nabc", [250]),
        (b"DATA\r\n", [503]),
        (b"MAIL FROM:<c@example.org>\r\n", [503]),
        (b"RCPT TO:<c@example.com>\r\n", [503]),
        (b"RSET\r\n", [250]),
        *NO_TRANSACTION,
    ],
    "end of data refused, then a message without MAIL": [
        ENVELOPE,
        (b"DATA\r\n", [354]),
        (b"a\nb\r\n.\r\n", [550]),
        *NO_TRANSACTION,
    ],
    "STARTTLS with arguments": [
        (b"STARTTLS now\r\n", [501]),
        (b"STARTTLS x\r\nNOOP\r\nEHLO x\r\n", [501, 250, 250]),
        (b"STARTTLS\0\r\n", [500]),
        (b"STARTTLS\tx\r\n", [500]),
        (b"STARTTLSx\r\n", [500]),
    ],
    "EHLO with control characters": [
        (b"EHLO a\0b\r\n", [500]),
        (b"EHLO \x1b[2Jx\r\n", [500]),
        (b"EHLO a\x7fb\r\n", [500]),
        (b"EHLO \tx\r\n", [500]),
        (b"EHLO a\rb\r\n", [500]),
        (b"EHLO a\nb\r\n", [500]),
        (b"HELO a\x08b\r\n", [500]),
        (b"EHLO \xc2\x85x\r\n", [501]),  # NEL, in UTF-8
        (b"EHLO a b\r\n", [501]),
        (b"EHLO\r\n", [501]),
    ],
    "invalid UTF-8": [
        (b"\xff\xfe\r\n", [500]),
        (b"\xc3\r\n", [500]),
        (b"EHLO \xff\r\n", [501]),
        (b"VRFY \xc0\xaf\r\n", [501]),
        (b"HELP \xed\xa0\x80\r\n", [501]),
        (b"NOOP \xff\r\n", [250]),
        (b"MAIL FROM:<\xff@example.org>\r\n", [553]),
        (b"MAIL FROM:<\xff@example.org> SMTPUTF8\r\n", [553]),
        (b"MAIL FROM:<a@example.org> BODY=\xff\r\n", [501]),
        (b"MAIL FROM:<a@example.org> \xff=x\r\n", [501]),
        (b"MAIL FROM:<a@example.org> SMTPUTF8\r\nRCPT TO:<\xc3@example.com>\r\nRSET\r\n", [250, 553, 250]),
    ],
    "VRFY with UTF-8 without SMTPUTF8": [
        ("VRFY jürgen\r\n".encode(), [252]),
        ("VRFY <jürgen@bücher.example>\r\n".encode(), [252]),
        ("VRFY jürgen SMTPUTF8\r\n".encode(), [252]),
        ("EXPN jürgen\r\n".encode(), [502]),
        (b"VRFY\r\n", [501]),
    ],
}

Talk: TypeAlias = Callable[[list[Step]], None]


class Core:
    """The sans-io core, driven as the server drives it: everything in order is taken."""

    def __init__(self) -> None:
        rules = ConnectionSettings(hostname="mx.example.org", starttls=True, extensions=frozenset({"CHUNKING", "DSN"}))
        self.connection = Connection(rules)
        self.connection.send()
        self.messages: list[bytes] = []
        self._body = b""

    def talk(self, steps: list[Step]) -> None:
        for sent, codes in steps:
            assert (sent, self._replies(sent)) == (sent, codes)

    def _replies(self, sent: bytes) -> list[int]:
        wire, connection = b"", self.connection
        connection.receive_data(sent)
        while not isinstance(event := connection.next_event(), ConnectionEnded | SwitchToTLS):
            if event is NEED_DATA:
                break
            if isinstance(event, BodyChunk | BodyEnd):
                self._body += event.data
            if isinstance(event, BodyChunk):
                continue
            if isinstance(event, Bdat):
                continue
            wire += connection.send()
            if isinstance(event, MailFrom | Data):
                self._body = b""
            elif isinstance(event, BodyEnd) and event.error is None:
                self.messages.append(self._body)
        assert not isinstance(event, SwitchToTLS)
        assert wire.isascii()
        return [int(code) for code in re.findall(rb"(?m)^(\d{3}) ", wire)]


async def talk(client: ScriptedClient, steps: list[Step]) -> None:
    """Run a dialogue.  Every reply must be ASCII: none of these clients asked for more."""
    for sent, codes in steps:
        await client.send(sent)
        answers = [await client.read() for _ in codes]
        assert (sent, [answer.code for answer in answers]) == (sent, codes)
        assert all(answer.text.isascii() for answer in answers)


@pytest.mark.parametrize("name", DIALOGUES)
def test_in_the_core(name: str) -> None:
    core = Core()
    core.talk([(b"EHLO x\r\n", [250]), *DIALOGUES[name], *MESSAGE])
    assert core.messages == [HONEST]


@pytest.mark.parametrize("name", DIALOGUES)
async def test_in_memory(tmp_path: Path, name: str) -> None:
    config = f"""Relay_Domains = ( "example.com" ) Spool_Directory = "{tmp_path}"
        ESMTP_Listener {{ Listen ":25" {{ SMTP_Extensions = ( ENHANCEDSTATUSCODES CHUNKING ) }} }}"""
    steps = [(sent, codes) for sent, codes in DIALOGUES[name]]
    if name.startswith("STARTTLS"):
        steps = []  # without a certificate there is none: the processes below have one
    async with open_memory_server(config) as server:
        await talk(server.connect(), [(b"EHLO x\r\n", [220, 250]), *steps, *MESSAGE])
    assert [message.body for message in server.messages] == [HONEST]


@pytest.mark.parametrize("workers", [0, 2])
async def test_in_processes(tmp_path: Path, workers: int) -> None:
    with esmtp_server(tmp_path, f"Workers = {workers}" if workers else "") as server:
        for steps in DIALOGUES.values():
            client = ScriptedClient(await trio.open_tcp_stream("127.0.0.1", server.port))
            await talk(client, [(b"EHLO x\r\n", [220, 250]), *steps, *MESSAGE])
            assert await client.read_eof() == b""
            await client.aclose()
        assert server.delivered() == [HONEST.replace(b"\r\n", b"\n")] * len(DIALOGUES)
        assert all(c.isprintable() or c == "\n" for c in server.log)
