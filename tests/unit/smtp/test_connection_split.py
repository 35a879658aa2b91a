"""The same events, however the octets are cut."""

import os
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from smtp_dialogue import Dialogue, joined

JUDGE = os.environ.get("TRIOSMTP_JUDGE") == "1"

LINES = st.sampled_from(
    [
        b"EHLO x\r\n", b"HELO x\r\n", b"MAIL FROM:<a@example.org>\r\n", b"MAIL FROM:<> SIZE=9\r\n", b"DATA\r\n",
        b"MAIL FROM:<\xc3\xbc@example.org> SMTPUTF8\r\n", b"RCPT TO:<b@example.com>\r\n", b"RCPT TO:<postmaster>\r\n",
        b"RCPT TO:<bad\r\n", b"RSET\r\n", b"NOOP\r\n", b"VRFY x\r\n", b"HELP\r\n", b"EXPN\r\n", b"\r\n", b"\n", b"\r",
        b".\r\n", b"..\r\n", b"\r\n.\r\n", b".", b"text", b"text\r\n", b"\0", b"\xff", b"x" * 600, b"QUIT\r\n", b" ",
    ]
)  # fmt: skip
TRANSACTION = st.just(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n")
INPUT = st.lists(LINES | TRANSACTION, max_size=25).map(b"".join)
RULES = st.fixed_dictionaries(
    {
        "max_line": st.just(512),
        "max_message_size": st.sampled_from([0, 20]),
        "max_command_errors": st.just(0),  # what counts depends on what was received in one read
        "lone_lf_in_headers": st.sampled_from(["ignore", "fix", "pedantic"]),
        "lone_lf_in_body": st.sampled_from(["ignore", "fix", "pedantic"]),
        "allow_trailing_whitespace": st.booleans(),
        "require_hello": st.booleans(),
    }
)


def talk(pieces: list[bytes], rules: dict[str, object]) -> tuple[list[object], list[str]]:
    dialogue = Dialogue(**rules)  # type: ignore[arg-type] # settings of ConnectionSettings, by name
    lines = [line for piece in pieces for line in dialogue.says(piece)]
    if not dialogue.connection.closed:
        dialogue.hangs_up()
    return list(joined(dialogue.events)), lines


@settings(max_examples=2000 if JUDGE else 200)
@given(INPUT, RULES, st.lists(st.integers(0, 600)))
def test_cut_anywhere(data: bytes, rules: dict[str, object], cuts: list[int]) -> None:
    whole = talk([data] if data else [], rules)
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    assert talk([data[a:b] for a, b in pairwise(places)], rules) == whole
    assert talk([data[i : i + 1] for i in range(len(data))], rules) == whole


def test_starttls_in_any_pieces() -> None:
    data = b"EHLO x\r\nMAIL FROM:<>\r\nSTARTTLS\r\n"
    expected = ["Hello", "MailFrom", "StartTLS", "SwitchToTLS"]
    for cut in range(len(data)):
        dialogue = Dialogue(starttls=True)
        dialogue.says(*filter(None, [data[:cut]]))
        dialogue.says(data[cut:])
        assert dialogue.names == expected
