"""Replies of a server as a client parses them: grammar, bounds, any division of the octets."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from triosmtp.smtp.reply_parser import MAX_REPLY_LINE, MAX_REPLY_LINES, ReceivedReply, ReplyError, ReplyParser

MALFORMED = [
    b"2500 Ok\r\n", b"25 Ok\r\n", b"abc Ok\r\n", b"250+Ok\r\n", b"\r\n", b"199 Ok\r\n", b"600 Ok\r\n", b" 250 Ok\r\n",
    b"25\xb2 Ok\r\n", b"\x00\r\n", b"HTTP/1.1 400 Bad Request\r\n", b"SSH-2.0-OpenSSH\r\n", b"250-a\r\n251 b\r\n",
    b"250-a\r\n\r\n", b"\x15\x03\x01\x00\x02\x02F\r\n",
]  # fmt: skip


def parsed(*chunks: bytes) -> list[ReceivedReply | str]:
    """Return the replies of these chunks, and the error if there is one."""
    parser, found = ReplyParser(), list[ReceivedReply | str]()
    for chunk in chunks:
        parser.receive_data(chunk)
        try:
            while (reply := parser.next_reply()) is not None:
                found.append(reply)
        except ReplyError as error:
            return [*found, str(error)]
    return found


@pytest.mark.parametrize(
    ("data", "code", "enhanced", "text"),
    [
        (b"250 Ok\r\n", 250, None, "Ok"),
        (b"250 2.1.5 Ok\r\n", 250, "2.1.5", "Ok"),
        (b"250\r\n", 250, None, ""),
        (b"250 \r\n", 250, None, ""),
        (b"550 5.1.1\r\n", 550, "5.1.1", ""),
        (b"550 5.1.1 No such user\n", 550, "5.1.1", "No such user"),
        (b"550-5.1.1 No such\r\n550-5.1.1 user\r\n550 5.1.1 here\r\n", 550, "5.1.1", "No such user here"),
        (b"550 4.2.2 Full\r\n", 550, None, "Full"),
        (b"451 5.0.0 x\r\n", 451, None, "x"),
        (b"550 5.01.001 x\r\n", 550, "5.1.1", "x"),
        (b"550 5.1.1x\r\n", 550, None, "5.1.1x"),
        (b"550 5.1.1234 x\r\n", 550, None, "5.1.1234 x"),
        (b"550 5.1.1 a\rb\tc\x1b[2Jd\r\n", 550, "5.1.1", "a?b?c?[2Jd"),
        ("550 5.1.1 a\u2028b\u0085c\r\n".encode(), 550, "5.1.1", "a?b?c"),
        (b"550 5.1.1 \xff\xc3\xbc\r\n", 550, "5.1.1", "\ufffd\u00fc"),
    ],
)
def test_reply(data: bytes, code: int, enhanced: str | None, text: str) -> None:
    (reply,) = parsed(data)
    assert isinstance(reply, ReceivedReply)
    assert (reply.code, reply.enhanced, reply.text) == (code, enhanced, text)
    assert str(reply) == " ".join(part for part in (str(code), enhanced or "", text) if part)


@pytest.mark.parametrize("data", MALFORMED)
def test_malformed(data: bytes) -> None:
    found = parsed(b"220 hi\r\n" + data + b"250 Ok\r\n")
    assert found[0] == ReceivedReply(220, ("hi",)), "what came before is read"
    assert len(found) == 2
    assert isinstance(found[1], str)
    assert found[1].isprintable()


def test_an_error_stays() -> None:
    parser = ReplyParser()
    parser.receive_data(b"nonsense\r\n250 Ok\r\n")
    for _ in range(2):
        with pytest.raises(ReplyError, match="not a reply: nonsense"):
            parser.next_reply()


def test_bounds() -> None:
    line = b"250 " + b"x" * (MAX_REPLY_LINE - 6)
    (reply,) = parsed(line + b"\r\n")
    assert isinstance(reply, ReceivedReply)
    assert parsed(line + b"x\r\n") == [f"a line of more than {MAX_REPLY_LINE} octets"]
    assert parsed(line, b"xxx") == [f"a line of more than {MAX_REPLY_LINE} octets"], "without waiting for its end"
    lines = b"250-x\r\n" * (MAX_REPLY_LINES - 1)
    (reply,) = parsed(lines + b"250 x\r\n")
    assert isinstance(reply, ReceivedReply)
    assert len(reply.lines) == MAX_REPLY_LINES
    assert parsed(lines + b"250-x\r\n") == [f"a reply of more than {MAX_REPLY_LINES} lines"]


def test_more() -> None:
    parser = ReplyParser()
    parser.receive_data(b"220 Go\r\n250")
    assert parser.next_reply() == ReceivedReply(220, ("Go",))
    assert parser.has_more
    parser.receive_data(b"-a\r\n")
    assert parser.next_reply() is None
    assert parser.has_more, "a part of a reply was read"
    parser.receive_data(b"250 b\r\n")
    assert parser.next_reply() == ReceivedReply(250, ("a", "b"))
    assert not parser.has_more


PIECE = st.sampled_from([b"250 Ok\r\n", b"250-a\r\n", b"550 5.1 x\n", b"\r", b"\n", b"2", b"\r\n", b"x" * 700, b"\xff"])


@given(st.lists(st.one_of(PIECE, st.binary(max_size=9)), max_size=12), st.lists(st.integers(0, 60)))
@example([b"250 Ok\r", b"\n"], [7])
@example([b"x" * 2046, b"\r\n"], [2047, 2048])
def test_any_division(pieces: list[bytes], cuts: list[int]) -> None:
    data = b"".join(pieces)
    places = sorted({min(cut, len(data)) for cut in cuts})
    chunks = [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]
    assert parsed(*chunks) == parsed(data) == parsed(*(bytes([octet]) for octet in data))


def test_rest() -> None:
    parser = ReplyParser()
    parser.receive_data(b"220 Go\r\n\x16\x03")
    parser.next_reply()
    assert parser.take_rest() == b"\x16\x03"
    assert parser.take_rest() == b""
    parser.receive_data(b"250 Ok\r\n")
    assert parser.next_reply() == ReceivedReply(250, ("Ok",))


def test_what_is_kept_of_a_long_reply() -> None:
    line = "x" * 2040
    assert ReceivedReply(550, ("5.1.1 No",) * 100).shortened() == ReceivedReply(550, ("5.1.1 No",) * 100)
    assert ReceivedReply(550, (line, line)).shortened() == ReceivedReply(550, (line,))
    assert ReceivedReply(550, ("No", "user", "x" * 2045, "x")).shortened() == ReceivedReply(550, ("No", "user"))
    assert ReceivedReply(334, (line * 2,)).shortened().lines == (line * 2,), "a challenge is one line"
