"""The commands of trusted peers in the sans-io core."""

import random

import pytest

from triosmtp.smtp import (
    NEED_DATA,
    PAUSED,
    Bdat,
    BodyChunk,
    Connection,
    ConnectionEnded,
    ConnectionSettings,
    Hello,
    Reply,
    SwitchToTLS,
    XClient,
    XRemoteIP,
)
from triosmtp.smtp.dialogue_state import CommandError, DialogueState
from triosmtp.smtp.error_limit import ErrorCounts
from triosmtp.smtp.trusted_command import parse_xclient

ALL = "XCLIENT XREMOTEIP XDUMPCONTEXT XSETCONTEXT"
SETTINGS = ConnectionSettings(hostname="mx.example.com")
DIALOGUE = DialogueState(SETTINGS, ErrorCounts(SETTINGS))


@pytest.mark.parametrize(
    ("argument", "attributes"),
    [
        (b"ADDR=203.0.113.7 NAME=client.example", {"ADDR": "203.0.113.7", "NAME": "client.example"}),
        (b"addr=IPV6:2001:DB8:0::1", {"ADDR": "2001:db8::1"}),
        (b"ADDR=IPV6:::ffff:192.0.2.1", {"ADDR": "192.0.2.1"}),
        (b"ADDR=[UNAVAILABLE] NAME=[tempunavail]", {"ADDR": None, "NAME": None}),
        (b"HELO=a+3Db PROTO=esmtp PORT=25", {"HELO": "a=b", "PROTO": "ESMTP", "PORT": "25"}),
        (b"LOGIN=us+C3+BCr", {"LOGIN": "us\u00fcr"}),
    ],
)
def test_xclient(argument: bytes, attributes: dict[str, str | None]) -> None:
    assert parse_xclient(b"", argument, DIALOGUE) == XClient(attributes)


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        (b"", "Syntax: XCLIENT attribute=value ..."),
        (b"ADDR", "Syntax: XCLIENT attribute=value ..."),
        (b"COLOUR=red", "Unknown attribute"),
        (b"ADDR=192.0.2.1 addr=192.0.2.1", "ADDR occurs twice"),
        (b"ADDR=IPV6:192.0.2.1", "Bad value of ADDR"),
        (b"ADDR=fe80::1+25eth0", "Bad value of ADDR"),
        (b"PORT=65536", "Bad value of PORT"),
        (b"PROTO=LMTP", "Bad value of PROTO"),
        (b"NAME=a+0Ab", "Bad value of NAME"),
        (b"HELO=" + b"x" * 256, "Bad value of HELO"),
    ],
)
def test_xclient_refused(argument: bytes, reply: str) -> None:
    with pytest.raises(CommandError) as caught:
        parse_xclient(b"", argument, DIALOGUE)
    assert caught.value.reply == Reply(501, reply, "5.5.4")


WORDS = (
    b"XCLIENT ADDR=203.0.113.7", b"XCLIENT NAME=x HELO=y", b"XCLIENT LOGIN=u", b"XREMOTEIP 2001:db8::1",
    b"XSETCONTEXT a=b", b"XDUMPCONTEXT", b"EHLO x", b"MAIL FROM:<a@b.example>", b"RCPT TO:<c@d.example>", b"DATA",
    b"x\r\n.", b"RSET",
    b"STARTTLS", b"BDAT 3", b"BDAT 0 LAST", b"XCLIENT \xff=\x00", b"NOOP", b"QUIT",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(150))
def test_the_core_has_an_outcome_for_every_sequence_with_them(seed: int) -> None:
    chance = random.Random(seed)
    extensions = frozenset([*ALL.split(), "CHUNKING"])
    rules = ConnectionSettings(
        hostname="mx.example.com", extensions=extensions, starttls=True, require_hello=seed % 2 == 0
    )
    connection = Connection(rules)
    connection.send()
    while not connection.closed and chance.random() > 0.02:
        event = connection.next_event()
        if event is NEED_DATA:
            connection.receive_data(chance.choice(WORDS) + b"\r\n" * (chance.random() > 0.05))
        elif isinstance(event, SwitchToTLS):
            connection.tls_started()
        else:
            assert event is not PAUSED
            if isinstance(event, XClient | XRemoteIP):
                hello = chance.choice([None, Hello("EHLO", "x", "EHLO x")])
                connection.change_peer(rules, hello=hello, banner=isinstance(event, XClient))
            if not isinstance(event, BodyChunk | Bdat | ConnectionEnded):  # no reply is owed for these
                refused = chance.random() < 0.2
                wire = connection.send(Reply(550, "no") if refused else None)
                assert refused or wire[:1] != b"2" or not isinstance(event, XClient) or wire[:3] == b"220"


def test_inside_tls_the_session_of_tls_stays() -> None:
    connection = Connection(
        ConnectionSettings(hostname="mx.example.com", extensions=frozenset({"XCLIENT"}), starttls=True)
    )
    connection.tls_started()
    connection.send()
    connection.receive_data(b"XCLIENT ADDR=203.0.113.7\r\nEHLO x\r\n")
    assert isinstance(connection.next_event(), XClient)
    connection.change_peer(connection.settings, hello=None, banner=True)
    connection.send()
    assert isinstance(connection.next_event(), Hello)
    assert b"STARTTLS" not in connection.send()
