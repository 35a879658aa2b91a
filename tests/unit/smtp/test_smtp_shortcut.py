"""What is cheap for nearly every command has the result of the general way, on any input."""

import random
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from smtp_dialogue import HOST, Dialogue
from smtp_fuzz import DEPTHS, any_input, any_rules, run
from smtp_table import CELLS, dialogue_in, pass_chunk, said

from triosmtp.smtp import PAUSED, BadCommand, Connection, ConnectionSettings, Reply, argument, connection, mail_address
from triosmtp.smtp.dialogue_state import CommandError, DialogueState
from triosmtp.smtp.error_limit import ErrorCounts

PATHS = st.text(alphabet='<>@ab.-_"\\[]:,1 +=\x7f\u00fc', max_size=20).map(lambda text: text.encode())
LOCAL_PARTS = ["a", "a.b", "a+b=c", "a..b", ".a", "a.", "'", '"a b"', '"a', "\u00fc", "a\u00a0", ""]
DOMAINS = ["b", "b.example", "-b", "b-", "b..c", "b.", "_b", "[192.0.2.1]", "[", "\u00fc.example", "\u2010", "", "1",
           "x" * 64, "a.b" * 90, "b_c", "b@c"]  # fmt: skip
MAILBOXES = st.builds(
    lambda local, domain, brackets: (f"<{local}@{domain}>" if brackets else f"{local}@{domain}").encode(),
    st.sampled_from(LOCAL_PARTS),
    st.sampled_from(DOMAINS),
    st.booleans(),
)
PARAMETERS = st.sampled_from(
    [b"", b" ", b"  ", b" SIZE=9", b"  SIZE=9 BODY=8BITMIME", b" SMTPUTF8", b" SIZE=x", b" \xff", b" BODY=BINARYMIME",
     b" \x85", b" NOTIFY=NEVER", b"\n", b" \n"]
)  # fmt: skip
ARGUMENTS = st.builds(
    lambda *parts: b"".join(parts),
    st.sampled_from([b"FROM:", b"TO:", b"from:", b"To: ", b"FROM", b"FROM: ", b""]),
    PATHS | MAILBOXES | st.sampled_from([b"<>", b"<postmaster>", b"<@a,@b:c@d>"]),
    PARAMETERS,
)
RULES = ConnectionSettings(hostname=HOST, extensions=frozenset({"DSN", "CHUNKING", "BINARYMIME"}))


def outcome(parse: Any, data: bytes) -> object:
    state = DialogueState(RULES, ErrorCounts(RULES), esmtp=True)
    try:
        event = parse(b"", data, state)
    except CommandError as error:
        return str(error), error.reply, state
    mailbox = getattr(event, "sender", None) or getattr(event, "recipient", None)
    return event, event.path, dict(event.parameters), str(mailbox), state


@example(b"FROM:<a@b>", argument.parse_mail)
@example(b"TO:<a@b> NOTIFY=NEVER", argument.parse_rcpt)
@settings(max_examples=1000)
@given(ARGUMENTS, st.sampled_from([argument.parse_mail, argument.parse_rcpt]))
def test_an_argument(data: bytes, parse: Any) -> None:
    short = outcome(parse, data)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_PLAIN_FROM", "_PLAIN_TO"):
            patch.setattr(argument, name, lambda _text: None)
        patch.setattr(mail_address, "_PLAIN", re.compile(r"(?!)"))
        assert outcome(parse, data) == short


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_line(depth: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(f"line {depth}")
    cases = [(any_input(rng), any_rules(rng) | {"require_tls": rng.random() < 0.2}) for _ in range(150)]
    short = [run(depth, data, rules, len(data)) for data, rules in cases]
    monkeypatch.setattr(connection, "match_plain_line", lambda *_: None)
    for (data, rules), result in zip(cases, short, strict=True):
        assert run(depth, data, rules, len(data)) == result, (data, rules)


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize(
    "line", ["NOOP ", "NOOP x ", "RSET  ", "RSET\t", "MAIL FROM:<a@b> ", "MAIL FROM:<a@b> SIZE=9 "]
)
def test_white_space_at_the_end(line: str, allowed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    short, general = (Dialogue(allow_trailing_whitespace=allowed) for _ in range(2))
    lines = short.says("EHLO x", line)
    monkeypatch.setattr(connection, "match_plain_line", lambda *_: None)
    assert general.says("EHLO x", line) == lines
    assert general.events == short.events
    assert (lines[-1][:3] == "250") is allowed


@pytest.mark.parametrize("size", [2046, 2047])
def test_a_line_at_its_limit(size: int) -> None:
    dialogue = Dialogue()
    assert dialogue.says("NOOP " + "x" * (size - 5))[0][:3] == ("250" if size <= 2046 else "500")
    assert dialogue.connection.commands == ({"NOOP": 1} if size <= 2046 else {})


@pytest.mark.parametrize(("name", "state", "after"), [cell for cell in CELLS if cell[2] != "-"])
def test_a_reply(name: str, state: str, after: str) -> None:
    sent, accepted = dialogue_in(state), dialogue_in(state)
    for dialogue in (sent, accepted):
        dialogue.connection.receive_data(said(name))
        pass_chunk(dialogue)
    for _ in range(2):  # rendered, and taken from what was rendered
        wire = sent.connection.send()
        assert accepted.connection.accept() == wire
        first, second = (
            {key: getattr(each.connection, key) for key in Connection.__slots__ if key not in {"rules", "_body"}}
            for each in (sent, accepted)
        )
        assert first == second
        if after != state:
            break
        for dialogue in (sent, accepted):
            dialogue.connection.receive_data(said(name))
            pass_chunk(dialogue)


def test_what_accept_cannot_answer() -> None:
    new = Connection(RULES)
    new.accept()
    with pytest.raises(RuntimeError, match="no reply is owed"):
        new.accept()
    new.receive_data(b"EXPN\r\n")
    assert isinstance(new.next_event(), BadCommand)
    assert new.accept() == b"502 5.5.1 Command not implemented\r\n"


def test_replies_of_one_connection_are_not_those_of_another() -> None:
    rules, ascii_rules = (
        ConnectionSettings(hostname="\u00fc.example", starttls=True),
        ConnectionSettings(hostname=HOST, starttls=True),
    )
    plain, smtputf8 = Connection(rules), Connection(rules)
    encrypted, without_auth = (Connection(ascii_rules) for _ in range(2))
    encrypted.tls_started()
    without_auth.tls_started()
    encrypted.offer_auth(("PLAIN",))
    for each in (plain, encrypted, smtputf8, without_auth):
        each.accept()
        each.receive_data(b"EHLO x\r\n")
        each.next_event()
    assert b"STARTTLS" in plain.accept()
    reply = encrypted.accept()
    assert b"STARTTLS" not in reply
    assert b"AUTH PLAIN" in reply
    assert b"AUTH" not in without_auth.accept()
    smtputf8.accept()
    smtputf8.receive_data(b"MAIL FROM:<\xc3\xbc@example.org> SMTPUTF8\r\n")
    smtputf8.next_event()
    assert smtputf8.accept() == b"250 2.1.0 Sender ok\r\n"
    smtputf8.receive_data(b"HELO x\r\n")
    smtputf8.next_event()
    assert smtputf8.accept() == "250 \u00fc.example\r\n".encode()
    plain.receive_data(b"HELO x\r\n")
    plain.next_event()
    assert plain.accept() == b"250 ?.example\r\n"


def test_what_is_rendered_is_kept_with_the_settings() -> None:
    rules = ConnectionSettings(hostname=HOST)
    for _ in range(3):
        each = Connection(rules)
        each.accept()
        each.receive_data(b"EHLO x\r\n")
        each.next_event()
        each.accept()
    assert len(rules.rendered) == 2
    assert all(isinstance(wire, bytes) for wire in rules.rendered.values())
    assert ConnectionSettings(hostname=HOST) == rules
    assert ConnectionSettings(hostname=HOST).rendered == {}


def test_where_the_dialogue_stands() -> None:
    """The attributes that a driver reads at each turn follow the state, by whatever way it was reached."""
    dialogue = Dialogue(extensions=frozenset({"CHUNKING"}))
    connection = dialogue.connection
    seen = []
    for line in (
        "EHLO x", "MAIL FROM:<>", "RCPT TO:<a@b>", "DATA", b"x\r\n.\r\n", "MAIL FROM:<>", "RCPT TO:<a@b>",
        b"BDAT 1\r\n", b"x", "RSET", "QUIT",
    ):  # fmt: skip
        dialogue.says(line)
        seen.append((connection.state.name, connection.in_body, connection.in_message, connection.closed))
    assert seen == [
        ("READY", False, False, False), ("MAIL", False, False, False), ("RCPT", False, False, False),
        ("BODY", True, True, False), ("READY", False, False, False), ("MAIL", False, False, False),
        ("RCPT", False, False, False), ("CHUNK", True, True, False), ("CHUNKS", False, True, False),
        ("READY", False, False, False), ("CLOSED", False, False, True),
    ]  # fmt: skip
    assert connection.next_event() is not PAUSED


def test_a_refusal_closes_the_shortcut() -> None:
    dialogue = Dialogue()
    dialogue.connection.refuse_commands(Reply(550, "No", "5.7.1"))
    assert dialogue.says("NOOP", "EHLO x") == ["550 5.7.1 No", "550 No"]


def test_smtputf8_ends_with_its_transaction() -> None:
    dialogue = Dialogue()
    dialogue.says("EHLO x")
    for end in ("RSET", "EHLO x"):
        lines = dialogue.says("MAIL FROM:<> SMTPUTF8", end, "MAIL FROM:<>", "RCPT TO:<\u00fc@example.org>", "RSET")
        assert [line[:3] for line in lines if line[3] == " "] == ["250", "250", "250", "553", "250"]
