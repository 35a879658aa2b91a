"""Command lines: which octets they may hold, and where they end."""

import random

import pytest
from smtp_dialogue import Dialogue, codes
from smtp_fuzz import DEPTHS, any_input, any_rules, run

from triosmtp.smtp import (
    NEED_DATA,
    PAUSED,
    BadCommand,
    BodyChunk,
    Hello,
    MailFrom,
    Noop,
    StartTLS,
    SwitchToTLS,
    connection,
)


class TestLines:
    @pytest.mark.parametrize("line", [b"NOOP\nNOOP\r\n", b"NOOP\rNOOP\r\n", b"NOOP\r\r\n", b"\nNOOP\r\n", b"\n\n\r\n"])
    def test_a_lone_cr_or_lf_ends_no_line(self, line: bytes) -> None:
        dialogue = Dialogue()
        assert dialogue.says(line, "NOOP") == [
            "500 5.5.2 Lines must end in CR LF; a lone CR or LF is not accepted", "250 2.0.0 Ok",
        ]  # fmt: skip

    @pytest.mark.parametrize("octet", [b"\0", b"\t", b"\x1b", b"\x7f", b"\x08"])
    def test_control_characters(self, octet: bytes) -> None:
        dialogue = Dialogue()
        lines = dialogue.says(b"NOOP " + octet + b"x\r\n", b"NOOP \xc3\xbc" + octet + b"x\r\n", "NOOP")
        assert lines == ["500 5.5.2 Control characters are not accepted"] * 2 + ["250 2.0.0 Ok"]

    def test_trailing_white_space_may_be_forbidden(self) -> None:
        dialogue = Dialogue(allow_trailing_whitespace=False)
        assert dialogue.says("NOOP ", "QUIT ") == ["501 5.5.4 Trailing white space is not accepted"] * 2

    @pytest.mark.parametrize("blanks", [" ", "\t", "   ", " \t", "\t "])
    def test_trailing_white_space_is_overlooked(self, blanks: str) -> None:
        dialogue = Dialogue(starttls=True)
        lines = [f"{line}{blanks}" for line in (
            "EHLO x", "NOOP", "HELP", "VRFY x", "MAIL FROM:<a@example.org>", "RSET", "MAIL FROM:<a@example.org> SIZE=1",
            "RCPT TO:<b@example.org>", "DATA",
        )]  # fmt: skip
        assert codes(dialogue.says(*lines)) == [250, 250, 214, 252, 250, 250, 250, 250, 354]
        hello, sender = dialogue.events[0], dialogue.events[4]
        assert isinstance(hello, Hello)
        assert (hello.domain, hello.line) == ("x", "EHLO x")
        assert isinstance(sender, MailFrom)
        assert (str(sender.sender), sender.path) == ("a@example.org", "<a@example.org>")
        assert codes(dialogue.says(f".\r\nSTARTTLS{blanks}")) == [250, 220]
        assert codes(Dialogue().says(f"QUIT{blanks}")) == [221]

    def test_white_space_is_never_part_of_an_address(self) -> None:
        dialogue = Dialogue()
        assert codes(dialogue.says(
            "MAIL FROM:<a@example.org >", "MAIL FROM:< a@example.org>", "MAIL FROM:<a @example.org>",
            "MAIL FROM:<a@example.org\t>", "MAIL\tFROM:<a@example.org>", "MAIL FROM:<a@example.org>\tSIZE=1",
            'MAIL FROM:<"a "@example.org> ',
        )) == [501, 501, 501, 500, 500, 500, 250]  # fmt: skip
        assert isinstance(dialogue.events[-1], MailFrom)
        assert dialogue.events[-1].sender.local_part == "a "

    def test_verbs_in_any_case(self) -> None:
        assert codes(Dialogue().says("eHlO x", "mAiL fRoM:<>", "rCpT tO:<Postmaster>", "dAtA")) == [250, 250, 250, 354]

    @pytest.mark.parametrize("size", [0, 1, 100])
    def test_the_longest_line(self, size: int) -> None:
        dialogue = Dialogue(max_line=512)
        assert dialogue.says("NOOP " + "x" * 505, size=size) == ["250 2.0.0 Ok"]
        assert dialogue.says("NOOP " + "x" * 506, size=size) == ["500 5.5.2 Line too long"]
        assert dialogue.says("NOOP", size=size) == ["250 2.0.0 Ok"]

    def test_a_long_line_is_one_error_and_bounded(self) -> None:
        dialogue = Dialogue()
        connection = dialogue.connection
        for _ in range(160):
            connection.receive_data(b"MAIL\n\0 " + b"x" * 65536 + b"\r")
            assert connection.next_event() is NEED_DATA
            assert len(connection._buffer) + len(connection._skipped) <= 2048
        assert dialogue.says("", "NOOP") == ["500 5.5.2 Line too long", "250 2.0.0 Ok"]
        (event, _) = dialogue.events
        assert isinstance(event, BadCommand)
        assert event.line.startswith(b"MAIL\n\0 xxx")
        assert len(event.line) == 512


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_line(depth: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(f"line {depth}")
    cases = [(any_input(rng), any_rules(rng) | {"require_tls": rng.random() < 0.2}) for _ in range(150)]
    short = [run(depth, data, rules, len(data)) for data, rules in cases]
    for name in ("match_plain_line", "is_plain_line", "decode_whole_body"):
        monkeypatch.setattr(connection, name, lambda *_: None)
    for (data, rules), result in zip(cases, short, strict=True):
        assert run(depth, data, rules, len(data)) == result, (data, rules)


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize(
    "line", ["NOOP ", "NOOP x ", "RSET  ", "RSET\t", "MAIL FROM:<a@b> ", "MAIL FROM:<a@b> SIZE=9 "]
)
def test_white_space_at_the_end(line: str, allowed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    short, general = (Dialogue(allow_trailing_whitespace=allowed) for _ in range(2))
    lines = short.says("EHLO x", line)
    for name in ("match_plain_line", "is_plain_line"):
        monkeypatch.setattr(connection, name, lambda *_: None)
    assert general.says("EHLO x", line) == lines
    assert general.events == short.events
    assert (lines[-1][:3] == "250") is allowed


def test_octets_for_the_short_way_and_the_general_one_are_taken_alike() -> None:
    """``receive_event`` is ``receive_data`` and ``next_event``, also while a reply is owed or TLS is due."""
    short, general = (Dialogue(starttls=True).connection for _ in range(2))
    for data in (
        b"EHLO x\r\n",
        b"MAIL FROM:<a@b.example>\r\n",
        b"RCPT TO:<b@c.example>\r\n",
        b"DATA\r\n",
        b"x\r\n.\r\n",
    ):
        general.receive_data(data)
        assert short.receive_event(data) == general.next_event()
        for each in (short, general):
            assert each.needs_data
        assert short.receive_event(b"NOOP\r\n") is PAUSED
        general.receive_data(b"NOOP\r\n")
        assert short.accept() == general.accept()
        if data == b"DATA\r\n":
            assert short.next_event() == general.next_event() == BodyChunk(b"NOOP\r\n")
        else:
            assert short.next_event() == general.next_event() == Noop()
            assert short.accept() == general.accept()
        assert short.next_event() is general.next_event() is NEED_DATA
        assert short.commands == general.commands
    assert short.receive_event(b"STARTTLS\r\n") == StartTLS()
    short.accept()
    assert short.next_event() == SwitchToTLS()
    with pytest.raises(RuntimeError):
        short.receive_event(b"NOOP\r\n")


@pytest.mark.parametrize("command", ["EHLO x", "NOOP", "RSET"])
def test_commands_that_do_nothing_are_limited_also_if_each_arrives_alone(command: str) -> None:
    together, alone = (Dialogue(max_junk_commands=3) for _ in range(2))
    lines = together.says(*[command] * 5)
    assert [line for _ in range(5) for line in alone.says(command)] == lines
    assert lines[-1].startswith("421 ")
    assert alone.events == together.events


@pytest.mark.parametrize("size", [2046, 2047])
def test_a_line_at_its_limit(size: int) -> None:
    dialogue = Dialogue()
    assert dialogue.says("NOOP " + "x" * (size - 5))[0][:3] == ("250" if size <= 2046 else "500")
    assert dialogue.connection.commands == ({"NOOP": 1} if size <= 2046 else {})
