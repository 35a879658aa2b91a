"""The protocol of NATS: each message is returned, regardless of its subject and headers, and the connection goes on."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.msg import Msg
from nats.errors import ProtocolError
from nats_servers import JetStream, NATSProcess, publish_octets

from triosmtp.jetstream.nats_client import NATSLogin, open_connection
from triosmtp.jetstream.nats_parser import NATSParser, printable_subject, read_status

SUBJECTS = [
    b"mail.in.\xff\xfe", b"mail.in.a\x0bb", b"mail.in.a\x0cb", b"mail.in.*", b"mail.in.>", b"mail.in.a\x00b",
    b"mail.in.a\x1b[31m", b"mail.in." + b"x" * 3000, b"mail.in.a\x85b", b"mail.in.\xe2\x80\xa8",
]  # fmt: skip
HEADERS = [
    b"NATS/1.0", b"NATS/1.0 5", b"NATS/1.0 404 No Messages\r\n\r\n", b"NATS/1.0 \xb2 \xff\r\n\r\n",
    b"NATS/1.0\r\nStatus: 503\r\n\r\n", b"NATS/1.0\r\nA: \xff\r\n\r\n", b"NATS/1.0\r\n\xff: x\r\n\r\n", b"\r\n\r\n",
    b"XXXX\r\n\r\n", b"NATS/1.0\r\n" + b"A: b\r\n" * 10_000 + b"\r\n",
]  # fmt: skip


class Recorder:
    """A client that records the calls of a parser."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    async def _process_msg(self, *message: Any) -> None:
        self.seen.append(message)

    async def _process_ping(self) -> None:
        self.seen.append(("ping",))

    async def _process_pong(self) -> None:
        self.seen.append(("pong",))

    async def _process_info(self, info: Any) -> None:
        self.seen.append(("info", info))

    async def _process_err(self, text: str) -> None:
        self.seen.append(("error", text))


def read(*parts: bytes) -> list[tuple[Any, ...]]:
    async def run() -> list[tuple[Any, ...]]:
        recorder = Recorder()
        parser = NATSParser(recorder)
        for part in parts:
            await parser.parse(part)
        return recorder.seen

    return asyncio.run(run())


WIRE = (
    b"INFO {\"a\": 1} \r\nPING\r\nPONG\r\n+OK\r\n-ERR 'Invalid Publish Subject'\r\nMSG s 1 2\r\nab\r\n"
    b"MSG s\x0b\xff 1 reply 0\r\n\r\nHMSG s 2 r 12 14\r\nNATS/1.0\r\n\r\nab\r\nHMSG\ts  3 12 12\r\nNATS/1.0\r\n\r\n\r\n"
)
SEEN = [
    ("info", {"a": 1}),
    ("ping",),
    ("pong",),
    ("error", "'invalid publish subject'"),
    (1, b"s", b"", b"ab", b""),
    (1, b"s\x0b\xff", b"reply", b"", b""),
    (2, b"s", b"r", b"ab", b"NATS/1.0\r\n\r\n"),
    (3, b"s", b"", b"", b"NATS/1.0\r\n\r\n"),
]


def test_lines_and_messages_are_read() -> None:
    assert read(WIRE) == SEEN


@given(st.lists(st.integers(1, len(WIRE) - 1)))
def test_the_division_into_parts_does_not_matter(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(WIRE)]
    assert read(*(WIRE[a:b] for a, b in pairwise(places))) == SEEN


@pytest.mark.parametrize(
    "line",
    [
        b"220 mx ESMTP", b"MSG", b"MSG s 1", b"MSG s x 1", b"MSG s 1 r r 1", b"MSG s 1 -1", b"HMSG s 1 5 4",
        b"HMSG s 1 -1 4", b"MSG s 1 " + b"9" * 5000, b"INFO {", b"INFO " + b"[" * 100_000, b"",
    ],
)  # fmt: skip
def test_what_is_not_the_protocol_is_an_error(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(line + b"\r\n")


def test_a_line_without_an_end_is_an_error() -> None:
    assert read(b"INFO " + b"x" * 1_000_000) == []
    with pytest.raises(ProtocolError):
        read(*[b"x" * 100_000] * 11)


@given(st.binary(max_size=40))
def test_any_octets_of_subjects_and_headers_are_read(octets: bytes) -> None:
    assert all(b"!"[0] <= each <= b"~"[0] for each in printable_subject(octets))
    for headers in octets, b"NATS/1.0" + octets, b"NATS/1.0 " + octets:
        read_status(headers)


def test_a_status_is_that_of_the_first_line() -> None:
    assert read_status(b"NATS/1.0 404 No Messages\r\n\r\n") == {"Status": "404", "Description": "No Messages"}
    assert read_status(b"NATS/1.0 503\r\n\r\n") == {"Status": "503"}
    assert read_status(b"NATS/1.0\r\nStatus: 503\r\n\r\n") == {}
    assert read_status(b"") is None


def test_no_message_in_a_stream_stops_a_connection(nats_server: NATSProcess, jetstream: JetStream) -> None:
    """A real server stores all of these."""
    commands = [b"PUB %s 5\r\nhello\r\n" % each for each in SUBJECTS]
    for number, each in enumerate(HEADERS):
        commands.append(b"HPUB mail.in.h%d %d %d\r\n%shello\r\n" % (number, len(each), len(each) + 5, each))
    publish_octets(nats_server, *commands)
    count = jetstream.ask("STREAM.INFO.MAIL")["state"]["messages"]
    assert count == len(SUBJECTS) + len(HEADERS)
    consumer = {"durable_name": "all", "ack_policy": "explicit"}
    jetstream.ask("CONSUMER.DURABLE.CREATE.MAIL.all", {"stream_name": "MAIL", "config": consumer})

    async def take() -> list[Msg]:
        connection = await open_connection(("127.0.0.1", nats_server.port), NATSLogin())
        found: list[Msg] = []
        complete = asyncio.Event()

        async def note(message: Msg) -> None:
            found.append(message)
            if len(found) == count:
                complete.set()

        await connection.client.subscribe("taken", cb=note)
        request = b'{"batch":%d,"expires":20000000000}' % count
        await connection.client.publish("$JS.API.CONSUMER.MSG.NEXT.MAIL.all", request, reply="taken")
        async with asyncio.timeout(20):
            await complete.wait()
        await connection.request("$JS.API.INFO", seconds=5)  # the connection is alive
        await connection.close()
        return found

    found = asyncio.run(take())
    assert {each.data for each in found} == {b"hello"}
    assert [each.reply.startswith("$JS.ACK.MAIL.all.") for each in found] == [True] * count
    assert found[0].subject == "mail.in.\\xff\\xfe"
    assert found[1].subject == "mail.in.a\\x0bb"
