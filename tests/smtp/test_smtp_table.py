"""The table, row by row and state by state, against a second telling of it."""

import pytest
from smtp_dialogue import Dialogue

from triosmtp.smtp import COMMANDS, PAUSED, BadCommand, Reply, State
from triosmtp.smtp.command import BANNER, BANNER_HELLO_DEMANDED, END_OF_BODY, HANDSHAKE, HARD_ERROR, MISTAKE

LINES = {
    "EHLO": "EHLO x",
    "HELO": "HELO x",
    "STARTTLS": "STARTTLS",
    "MAIL": "MAIL FROM:<>",
    "RCPT": "RCPT TO:<postmaster>",
    "DATA": "DATA",
    "RSET": "RSET",
    "NOOP": "NOOP",
    "VRFY": "VRFY x",
    "HELP": "HELP",
    "QUIT": "QUIT",
}
#       START      READY       MAIL        DECLINED    RCPT
AFTER = {
    "EHLO": "READY READY READY READY READY",
    "HELO": "READY READY READY READY READY",
    "STARTTLS": "SWITCHING SWITCHING SWITCHING SWITCHING SWITCHING",
    "MAIL": "- MAIL - - -",
    "RCPT": "- - RCPT RCPT RCPT",
    "DATA": "- - - - BODY",
    "RSET": "START READY READY READY READY",
    "NOOP": "START READY MAIL DECLINED RCPT",
    "VRFY": "START READY MAIL DECLINED RCPT",
    "HELP": "START READY MAIL DECLINED RCPT",
    "QUIT": "CLOSED CLOSED CLOSED CLOSED CLOSED",
}
STATES = ["START", "READY", "MAIL", "DECLINED", "RCPT"]
CELLS = [(name, STATES[i], after) for name, row in AFTER.items() for i, after in enumerate(row.split())]


def dialogue_in(state: str) -> Dialogue:
    dialogue = Dialogue(starttls=True, require_hello=True, handshake=False)
    dialogue.answers["RcptTo"] = [Reply(550, "No")] if state == "DECLINED" else []
    for line in {"START": [], "READY": ["EHLO"], "MAIL": ["EHLO", "MAIL"]}.get(state, ["EHLO", "MAIL", "RCPT"]):
        dialogue.says(LINES[line])
    assert dialogue.connection.state is State[state]
    return dialogue


def test_every_command_is_told_twice() -> None:
    assert [name.decode() for name in COMMANDS] == list(AFTER) == list(LINES)


@pytest.mark.parametrize(("name", "state", "after"), CELLS)
def test_a_positive_reply(name: str, state: str, after: str) -> None:
    dialogue = dialogue_in(state)
    lines = dialogue.says(LINES[name])
    if after == "-":
        assert isinstance(dialogue.events[-1], BadCommand)
        assert lines[-1][:9] == ("554 5.5.1" if (name, state) == ("DATA", "DECLINED") else "503 5.5.1")
        after = "DECLINED" if (name, state) == ("RCPT", "MAIL") else state
    else:
        assert int(lines[-1][0]) == COMMANDS[name.encode()].reply_class
    assert dialogue.connection.state is State[after]


@pytest.mark.parametrize(("name", "state", "after"), [cell for cell in CELLS if cell[2] != "-"])
def test_a_negative_reply(name: str, state: str, after: str) -> None:
    dialogue = dialogue_in(state)
    dialogue.connection.receive_data(LINES[name].encode() + b"\r\n")
    assert dialogue.connection.next_event() is not PAUSED
    dialogue.connection.send(Reply(550, "No", "5.7.1"))
    assert dialogue.connection.state is State["DECLINED" if (name, state) == ("RCPT", "MAIL") else state]


@pytest.mark.parametrize(("name", "state", "after"), [cell for cell in CELLS if cell[2] != "-"])
def test_421(name: str, state: str, after: str) -> None:
    dialogue = dialogue_in(state)
    dialogue.connection.receive_data(LINES[name].encode() + b"\r\n")
    dialogue.connection.next_event()
    dialogue.connection.send(Reply(421, "Going down", "4.3.2"))
    assert dialogue.connection.closed


def test_columns() -> None:
    rows = COMMANDS.values()
    assert {row.name: row.phase for row in rows if row.phase} == {
        "EHLO": "ehlo", "HELO": "ehlo", "MAIL": "mailfrom", "RCPT": "rcptto", "DATA": "data",
    }  # fmt: skip
    assert {row.phase for row in (BANNER, HANDSHAKE, END_OF_BODY)} == {"connect", "starttls", "data_spool"}
    assert [row.name for row in rows if not row.ends_group] == ["MAIL", "RCPT", "RSET"]
    assert [row.name for row in rows if row.before_tls] == ["EHLO", "HELO", "STARTTLS", "NOOP", "QUIT"]
    assert [row.name for row in rows if not row.enhanced] == ["EHLO", "HELO"]


def test_rows_without_a_line() -> None:
    assert dict(BANNER.moves) == {State.CONNECTED: State.READY}
    assert dict(BANNER_HELLO_DEMANDED.moves) == {State.CONNECTED: State.START}
    assert dict(BANNER.refused) == dict(BANNER_HELLO_DEMANDED.refused) == {State.CONNECTED: State.REFUSED}
    assert dict(END_OF_BODY.moves) == dict(END_OF_BODY.refused) == {State.BODY: State.READY}
    assert dict(HANDSHAKE.moves) == {State.SWITCHING: State.START}
    assert not MISTAKE.moves
    assert not MISTAKE.refused
    assert not HARD_ERROR.moves
    assert set(HARD_ERROR.refused.values()) == {State.CLOSED}
