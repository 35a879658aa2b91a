"""The frames of the milter protocol: what is sent, what is understood, and what is refused."""

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from milter_program import packet
from milter_program import strings as texts

from triosmtp.filters.milter_codec import (
    ACTIONS,
    MAX_FRAME,
    MAX_REPLY_LINES,
    MAX_SYMBOLS,
    PROGRESS,
    PROTOCOL,
    Action,
    AddHeader,
    AddRecipient,
    Answer,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    FrameReader,
    InsertHeader,
    MilterError,
    NewBody,
    Protocol,
    Quarantine,
    Verdict,
    encode_frame,
    encode_macros,
    encode_options,
    parse_answer,
    parse_options,
    strings,
)


def indexed(index: int, *more: str) -> bytes:
    return struct.pack(">I", index) + texts(*more)


ANSWERS: list[tuple[bytes, bytes, Answer]] = [
    (b"c", b"", Verdict("continue")),
    (b"a", b"", Verdict("accept")),
    (b"r", b"", Verdict("reject")),
    (b"t", b"", Verdict("tempfail")),
    (b"d", b"", Verdict("discard")),
    (b"s", b"", Verdict("skip")),
    (b"4", b"", Verdict("shutdown")),
    (b"f", b"", Verdict("conn_fail")),
    (b"p", b"", PROGRESS),
    (b"y", texts("550 5.7.1 No"), Verdict("reply", 550, "5.7.1", "No")),
    (b"y", texts("451 later"), Verdict("reply", 451, "", "later")),
    (b"y", texts("554"), Verdict("reply", 554)),
    (b"y", texts("550 5.1.1"), Verdict("reply", 550, "5.1.1")),
    (b"y", texts("550 100%% sure"), Verdict("reply", 550, "", "100% sure")),
    (
        b"y",
        texts("550-5.7.1 one\r\n550-5.7.1 two\r\n550 5.7.1 three"),
        Verdict("reply", 550, "5.7.1", "one\ntwo\nthree"),
    ),
    (b"y", texts("550 a\x01b\x7f"), Verdict("reply", 550, "", "a?b?")),
    (b"h", texts("X", "1"), AddHeader(b"X", b"1")),
    (b"i", indexed(3, "X", "1"), InsertHeader(3, b"X", b"1")),
    (b"m", indexed(2, "X", ""), ChangeHeader(2, b"X", b"")),
    (b"m", indexed(0, "X", "1"), ChangeHeader(1, b"X", b"1")),
    (b"b", b"new\0body", NewBody(b"new\0body")),
    (b"e", texts("<a@b>"), ChangeSender(b"<a@b>", b"")),
    (b"e", texts("<a@b>", "RET=HDRS ENVID=x"), ChangeSender(b"<a@b>", b"RET=HDRS ENVID=x")),
    (b"+", texts("<a@b>"), AddRecipient(b"<a@b>", b"", extended=False)),
    (b"2", texts("<a@b>", "NOTIFY=NEVER"), AddRecipient(b"<a@b>", b"NOTIFY=NEVER", extended=True)),
    (b"2", texts("<a@b>"), AddRecipient(b"<a@b>", b"", extended=True)),
    (b"-", texts("<a@b>"), DeleteRecipient(b"<a@b>")),
    (b"q", texts("a\r\nvirus"), Quarantine("a??virus")),
]


@pytest.mark.parametrize(("code", "data", "answer"), ANSWERS)
def test_each_answer_is_understood(code: bytes, data: bytes, answer: Answer) -> None:
    assert parse_answer(code, data) == answer


@pytest.mark.parametrize(
    ("code", "data"),
    [
        (b"c", b"x"), (b"p", b"\0"), (b"z", b""), (b"O", b""), (b"h", texts("X")), (b"h", texts("X", "1", "2")),
        (b"h", b"X\0001"), (b"i", b"\0\0"), (b"i", texts("X", "1")), (b"m", indexed(1, "X")), (b"e", b""),
        (b"+", texts("<a@b>", "NOTIFY=NEVER")), (b"-", b"<a@b>"), (b"q", b""), (b"y", b""), (b"y", texts("")),
        (b"y", texts("250 ok")), (b"y", texts("5500 x")), (b"y", texts("550x")), (b"y", texts("550-more")),
        (b"y", texts("550 a\r\n550 b")), (b"y", texts("550-a\r\n551 b")), (b"y", texts("550 4.7.1 a")),
        (b"y", texts("550-a\r\n250 b")), (b"y", texts("550-a\nMAIL FROM:<>")),
        (b"y", texts("\r\n".join(["550-x"] * MAX_REPLY_LINES + ["550 x"]))),
    ],
)  # fmt: skip
def test_what_is_malformed_is_an_error(code: bytes, data: bytes) -> None:
    with pytest.raises(MilterError):
        parse_answer(code, data)


@given(st.binary(min_size=1, max_size=1), st.binary(max_size=60))
def test_nothing_but_an_answer_or_an_error_comes_of_any_octets(code: bytes, data: bytes) -> None:
    try:
        answer = parse_answer(code, data)
    except MilterError:
        return
    if isinstance(answer, Verdict):
        assert "\r" not in answer.text
        assert all(line.isprintable() or "\t" in line or not line.isascii() for line in answer.text.split("\n"))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.binary(max_size=9)), max_size=5), st.lists(st.integers(0, 60)))
def test_frames_are_the_same_however_they_are_divided(frames: list[tuple[str, bytes]], cuts: list[int]) -> None:
    data = b"".join(packet(code.encode() + body) for code, body in frames)
    reader, found = FrameReader(), []
    at = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    for start, end in pairwise(at):
        reader.receive_data(data[start:end])
        while (frame := reader.next_frame()) is not None:
            found.append(frame)
    assert found == [(code.encode(), body) for code, body in frames]
    assert not reader


@pytest.mark.parametrize("length", [0, MAX_FRAME + 1, 0xFFFFFFFF])
def test_a_frame_without_octets_or_with_too_many_is_an_error_at_once(length: int) -> None:
    reader = FrameReader()
    reader.receive_data(struct.pack(">I", length))
    with pytest.raises(MilterError, match=str(length)):
        reader.next_frame()


def test_what_is_sent_has_its_length_and_its_zeros() -> None:
    assert encode_frame(b"B", b"ab", b"c") == b"\0\0\0\4Babc"
    assert encode_options() == b"\0\0\0\x0dO\0\0\0\6\0\0\1\xff\0\x1f\xff\xff"  # as Postfix 3.7
    assert encode_macros(b"C", [("j", "mx"), ("{x}", "1\0\r\n")]) == packet(b"DC" + texts("j", "mx", "{x}", "1???"))
    assert encode_macros(b"H", []) == packet(b"DH")
    assert strings("a\0b", b"\xff", "\ud800") == b"ab\0\xff\0?\0"


def test_the_negotiation_has_version_actions_steps_and_macros() -> None:
    chosen = struct.pack(">III", 6, 0x11, 0x80) + indexed(0, "j {client_addr},{v} verify") + indexed(5, "")
    options = parse_options(chosen)
    assert (options.version, options.actions, options.protocol) == (6, Action.ADDHDRS | Action.CHGHDRS, Protocol.NR_HDR)
    assert options.symbols == {0: ("j", "{client_addr}", "v", "{verify}"), 5: ()}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        struct.pack(">II", 6, 1),
        struct.pack(">III", 1, 0, 0),
        struct.pack(">III", 7, 0, 0),
        struct.pack(">III", 6, ACTIONS + 1, 0),
        struct.pack(">III", 6, 0, PROTOCOL + 1),
        struct.pack(">III", 6, 0, 0x40000000),
        struct.pack(">III", 6, 0, 0) + b"\0\0",
        struct.pack(">III", 6, 0, 0) + b"\0\0\0\1j",
        struct.pack(">III", 6, 0, 0) + indexed(7, "j"),
        struct.pack(">III", 6, 0, 0) + indexed(1, "j " * (MAX_SYMBOLS + 1)),
    ],
)
def test_a_negotiation_with_what_was_not_offered_is_an_error(data: bytes) -> None:
    with pytest.raises(MilterError):
        parse_options(data)
