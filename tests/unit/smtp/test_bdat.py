"""BDAT (RFC 3030): its octets are counted and never parsed, also if they look like commands."""

from typing import Any

import pytest
from smtp_dialogue import HOST, Dialogue, codes

from triosmtp.smtp import BadCommand, Bdat, BodyEnd, ProtocolFailure, Reply, State

BEGIN = ("EHLO x", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>")
OFFERED = frozenset({"CHUNKING", "BINARYMIME"})


def begun(mail: str = "", **rules: Any) -> Dialogue:
    dialogue = Dialogue(**{"extensions": OFFERED, **rules})
    assert codes(dialogue.says(BEGIN[0], BEGIN[1] + mail, BEGIN[2])) == [250, 250, 250]
    dialogue.events.clear()
    return dialogue


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7])
def test_a_message_in_chunks(size: int) -> None:
    dialogue = begun()
    lines = dialogue.says(
        b"BDAT 10\r\nSubject: x\rBDAT 0\r\nBDAT 5\r\n\n\r\n.\r", b"BDAT 3 last\r\n\nQU", "QUIT", size=size
    )
    # The octet that seems to begin the second command belongs to no chunk.
    assert lines[0] == "250 2.0.0 Octets received"
    assert codes(lines)[1] == 500
    dialogue = begun()
    lines = dialogue.says(
        b"BDAT 10\r\nSubject: xBDAT 0\r\nBDAT 5\r\n\r\n.\r\nBDAT 6 LAST\r\n.\r\nend", "QUIT", size=size
    )
    assert codes(lines) == [250, 250, 250, 250, 221]
    assert dialogue.body == b"Subject: x\r\n.\r\n.\r\nend"
    [end] = [event for event in dialogue.events if isinstance(event, BodyEnd)]
    assert end == BodyEnd(len(dialogue.body))
    assert [event for event in dialogue.events if isinstance(event, Bdat)] == [
        Bdat(10, last=False, first=True), Bdat(0, last=False), Bdat(5, last=False), Bdat(6, last=True),
    ]  # fmt: skip
    assert dialogue.connection.state is State.CLOSED


def test_one_chunk_is_a_whole_message_and_zero_ends_one() -> None:
    dialogue = begun()
    assert codes(dialogue.says(b"BDAT 3 LAST\r\nx\r\n", *BEGIN[1:], b"BDAT 2\r\ny\rBDAT 0 LAST\r\n")) == [
        250,
        250,
        250,
        250,
        550,
    ]
    assert dialogue.events[1].data == b"x\r\n"  # type: ignore[union-attr]


def test_a_bare_line_end_refuses_the_message_even_between_chunks() -> None:
    for first, second in ((b"x\r", b"y"), (b"x", b"\ny"), (b"\rx", b"y")):
        dialogue = begun()
        lines = dialogue.says(b"BDAT %d\r\n%sBDAT %d LAST\r\n%s" % (len(first), first, len(second), second), "NOOP")
        assert codes(lines)[-1] == 250
        assert 550 in codes(lines)
        assert 250 not in codes(lines[1:-1])
    dialogue = begun()
    assert codes(dialogue.says(b"BDAT 2\r\nx\rBDAT 2 LAST\r\n\ny")) == [250, 250]
    assert dialogue.body == b"x\r\ny"


def test_a_binary_body_is_not_looked_at_and_takes_no_data() -> None:
    dialogue = begun(" BODY=BINARYMIME")
    assert dialogue.says("DATA") == ["503 5.5.1 BODY=BINARYMIME needs BDAT"]
    assert codes(dialogue.says(b"BDAT 9 LAST\r\n\0\n\r\r\n.\r\n\r")) == [250]
    assert dialogue.body == b"\0\n\r\r\n.\r\n\r"
    assert codes(dialogue.says(*BEGIN[1:], "DATA")) == [250, 250, 354]


def test_what_a_refused_bdat_brings_is_never_taken_for_commands() -> None:
    inner = b"MAIL FROM:<evil@example.org>\r\nQUIT\r\n"
    for before, code in (((), 503), (BEGIN[:1], 503), (BEGIN[:2], 503)):
        dialogue = Dialogue(extensions=OFFERED, require_hello=True)
        dialogue.says(*before)
        dialogue.events.clear()
        assert codes(dialogue.says(b"BDAT %d LAST\r\n%s" % (len(inner), inner), "NOOP")) == [code, 250]
        assert [type(event) for event in dialogue.events[:1]] == [BadCommand]
    dialogue = Dialogue()  # not even if BDAT is not offered
    assert codes(dialogue.says(*BEGIN, b"BDAT %d LAST\r\n%s" % (len(inner), inner), "NOOP"))[3:] == [502, 250]
    dialogue = Dialogue(extensions=OFFERED, banner=Reply(554, "No"))
    assert codes(dialogue.says(b"BDAT %d LAST\r\n%s" % (len(inner), inner), "QUIT")) == [503, 221]


def test_a_refused_chunk_ends_the_transaction_and_pipelined_commands_do_not_count() -> None:
    dialogue = begun(max_command_errors=1)
    dialogue.answers["ChunkEnd"] = [Reply(452, "Full", "4.3.1")]
    lines = dialogue.says(b"BDAT 1\r\naBDAT 1\r\nbBDAT 1\r\ncBDAT 1 LAST\r\nd", "RSET", *BEGIN[1:], b"BDAT 1 LAST\r\ne")
    assert codes(lines) == [452, 503, 503, 503, 250, 250, 250, 250]
    assert dialogue.body == b"ae"


@pytest.mark.parametrize(
    "argument", ["", "x", "-1", "+1", "1 FIRST", "1LAST", "1 LAST x", "9" * 19, "\u0661", "1.5", "0x10"]
)
def test_a_size_that_is_none_ends_the_connection(argument: str) -> None:
    dialogue = begun()
    lines = dialogue.says(f"BDAT {argument}".rstrip(), "NOOP")
    assert codes(lines) == [501]
    assert isinstance(dialogue.events[-1], ProtocolFailure)
    assert dialogue.connection.closed


@pytest.mark.parametrize("offered", [OFFERED, frozenset()])
@pytest.mark.parametrize(
    "line",
    [b"BDAT 99 LAST\t", b"BDAT 99\x01", b"bdat\t99", b"BDAT\xa099 LAST", b"BDAT 99" + b" " * 3000, b"BDAT", b"BDAT ",
     b"BDAT 5 5", b"BDAT 5\r LAST"],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 1000, 0])
def test_a_malformed_bdat_ends_the_connection(line: bytes, offered: frozenset[str], size: int) -> None:
    dialogue = begun(extensions=offered)
    lines = dialogue.says(line + b"\r\n", "RSET", "MAIL FROM:<smuggled@x.example>", size=size)
    assert codes(lines) == [int(lines[0][:3])]
    assert codes(lines)[0] in {500, 501, 502}
    assert isinstance(dialogue.events[-1], ProtocolFailure)
    assert dialogue.connection.closed


def test_a_word_that_only_begins_so_is_a_command_like_any_other() -> None:
    assert codes(begun().says("BDATA 5", "NOOP")) == [500, 250]


def test_empty_chunks_are_limited() -> None:
    dialogue = begun(max_junk_commands=5)
    assert codes(dialogue.says(*[b"BDAT 0\r\n"] * 7)) == [250] * 4 + [421]  # EHLO was one of the five
    dialogue = begun(max_junk_commands=1)
    assert codes(dialogue.says(b"BDAT 0 LAST\r\n")) == [250]


def test_the_size_limit_is_exact_and_excess_is_not_read_for_ever() -> None:
    for total, code in ((100, 250), (101, 552)):
        dialogue = begun(max_message_size=100)
        rest = total - 60
        assert codes(dialogue.says(b"BDAT 60\r\n" + b"x" * 60 + b"BDAT %d LAST\r\n" % rest + b"y" * rest, "NOOP")) == [
            250,
            code,
            250,
        ]
    dialogue = begun(max_message_size=100, max_discarded_size=1000)
    lines = dialogue.says(b"BDAT 999999999999999999 LAST\r\n", *[b"x" * 500] * 4)
    assert codes(lines) == [552]
    assert dialogue.connection.closed
    dialogue = begun(max_message_size=100, max_discarded_size=1000)
    assert codes(dialogue.says("DATA", *["x" * 500] * 5, "NOOP")) == [354, 552]
    dialogue = Dialogue(extensions=OFFERED)
    assert codes(dialogue.says("BDAT 99999999999 LAST")) == [503]
    assert dialogue.connection.closed


def test_data_and_bdat_do_not_mix() -> None:
    dialogue = begun()
    assert codes(dialogue.says(b"BDAT 1\r\nx", "DATA", "RCPT TO:<c@example.com>", "MAIL FROM:<>", "NOOP")) == [
        250,
        503,
        503,
        503,
        250,
    ]
    assert codes(dialogue.says("RSET", *BEGIN[1:], b"BDAT 1 LAST\r\nz")) == [250, 250, 250, 250]


def test_a_peer_that_leaves_in_a_chunk() -> None:
    dialogue = begun()
    dialogue.says(b"BDAT 9\r\nabc")
    assert dialogue.connection.in_body
    dialogue.hangs_up()
    assert dialogue.names == ["Bdat", "BodyChunk", "ConnectionEnded"]
    assert not dialogue.events[-1].clean  # type: ignore[union-attr]


def test_starttls_behind_a_chunk_is_no_way_in() -> None:
    dialogue = begun(starttls=True, handshake=False)
    assert codes(dialogue.says(b"BDAT 12 LAST\r\nSTARTTLS\r\n\r\n", "STARTTLS")) == [250, 220]
    dialogue = begun(starttls=True)
    lines = dialogue.says(b"STARTTLS\r\nBDAT 3\r\nabc")
    assert codes(lines) == [554]


def test_what_ehlo_offers() -> None:
    every = frozenset({*OFFERED, "DSN", "LIMITS", "REQUIRETLS", "DELIVERBY", "MT-PRIORITY", "FUTURERELEASE"})
    basic = [f"250-{HOST}", "250-PIPELINING", "250-8BITMIME", "250-SIZE 0", "250-SMTPUTF8", "250-ENHANCEDSTATUSCODES"]
    dialogue = Dialogue(tls=True, extensions=every, max_mails=5, max_recipients=100, max_hold=60)
    assert dialogue.says("EHLO x") == [
        *basic, "250-CHUNKING", "250-BINARYMIME", "250-DSN", "250-LIMITS MAILMAX=5 RCPTMAX=100", "250-REQUIRETLS",
        "250-DELIVERBY", "250-MT-PRIORITY", "250 FUTURERELEASE 60 9999-12-31T23:59:59Z",
    ]  # fmt: skip
    assert "250-REQUIRETLS" not in Dialogue(extensions=every).says("EHLO x")
    assert Dialogue(extensions=frozenset({"BINARYMIME", "LIMITS"})).says("EHLO x")[-1] == "250 ENHANCEDSTATUSCODES"
    assert "BDAT" in Dialogue(extensions=every).says("HELP")[0]
    assert "BDAT" not in Dialogue().says("HELP")[0]
