"""The body of DATA as a client sends it: one end of data, no lone CR or LF, any division."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from triosmtp.smtp import ConnectionSettings
from triosmtp.smtp.body import BodyDecoder
from triosmtp.smtp.dot_stuffing import BodyEncoder

ENDS = [
    b"\r\n.\r\n", b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r.\r\n", b"\n.\r", b"\r.\n",
    b"\r\r\n.\r\n", b"\r\n.\r\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\n\n.\n\n", b"\r\n..\r\n", b"\n..\n", b".\n",
]  # fmt: skip


def encoded(*chunks: bytes) -> bytes:
    encoder = BodyEncoder()
    return b"".join([*map(encoder.encode, chunks), encoder.finish()])


def canonical(message: bytes) -> bytes:
    """Return the message with CRLF at the end of each line."""
    message = re.sub(rb"\r\n|\r|\n", b"\r\n", message)
    return message if message.endswith(b"\r\n") or not message else message + b"\r\n"


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (b"", b".\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b".a\r\n..\r\n.\r\n", b"..a\r\n...\r\n..\r\n.\r\n"),
        (b"a.\r\nb.c\r\n", b"a.\r\nb.c\r\n.\r\n"),
        (b"a\nb\rc\r\nd", b"a\r\nb\r\nc\r\nd\r\n.\r\n"),
        (b"a\r\r\nb", b"a\r\n\r\nb\r\n.\r\n"),
        (b"a\r", b"a\r\n.\r\n"),
        (b"\r", b"\r\n.\r\n"),
        (b"\n.", b"\r\n..\r\n.\r\n"),
    ],
)
def test_wire(message: bytes, wire: bytes) -> None:
    assert encoded(message) == wire
    assert encoded(*(bytes([octet]) for octet in message)) == wire


@pytest.mark.parametrize("end", ENDS)
def test_an_end_of_data_in_the_message_ends_nothing(end: bytes) -> None:
    wire = encoded(b"Subject: x\r\n\r\nfirst" + end + b"MAIL FROM:<forged@example.org>\r\n")
    assert wire.count(b"\r\n.\r\n") == 1
    assert re.search(rb"(?<!\r)\n|\r(?!\n)", wire) is None
    assert not re.search(rb"(?:^|[\r\n])\.(?:[\r\n])", wire[:-5])


PIECES = st.lists(st.one_of(st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"a", b"\r\n.\r\n"]), st.binary(max_size=5)))


@given(PIECES)
@example([b"a\r", b"\nb"])
@example([b"a\r", b".b"])
@example([b"a\r", b"", b"\n"])
def test_a_server_receives_the_message_and_nothing_else(chunks: list[bytes]) -> None:
    message = b"".join(chunks)
    wire = encoded(*chunks)
    assert wire == encoded(message), "any division"
    assert re.search(rb"(?<!\r)\n|\r(?!\n)", wire) is None
    decoder = BodyDecoder(ConnectionSettings(hostname="mx.example.org"))
    part, after = decoder.decode(wire, 0)
    assert decoder.ended
    assert after == len(wire), "one message, and nothing behind it"
    assert decoder.error is None
    assert part == canonical(message)


def test_lone_line_ends_can_be_kept_for_tests_of_servers() -> None:
    encoder = BodyEncoder(canonical=False)
    wire = b"".join(map(encoder.encode, (b".a\n.b\r", b".c\r", b"\n.d\r"))) + encoder.finish()
    assert wire == b"..a\n.b\r.c\r\n..d\r\r\n.\r\n"
