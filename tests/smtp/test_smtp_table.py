"""The table, row by row and state by state, against a second telling of it."""

import pytest
from smtp_dialogue import Dialogue

from triosmtp.smtp import COMMANDS, PAUSED, BadCommand, BodyChunk, Chunk, Reply, State
from triosmtp.smtp.command import (
    BANNER,
    BANNER_HELLO_DEMANDED,
    END_OF_BODY,
    END_OF_CHUNK,
    HANDSHAKE,
    HARD_ERROR,
    MISTAKE,
    RESPONSE,
)

LINES = {
    "EHLO": "EHLO x",
    "HELO": "HELO x",
    "STARTTLS": "STARTTLS",
    "AUTH": "AUTH PLAIN AGEAYg==",
    "MAIL": "MAIL FROM:<>",
    "RCPT": "RCPT TO:<postmaster>",
    "DATA": "DATA",
    "BDAT": "BDAT 1\r\nx",
    "RSET": "RSET",
    "NOOP": "NOOP",
    "VRFY": "VRFY x",
    "HELP": "HELP",
    "QUIT": "QUIT",
}
#       START      READY       MAIL        DECLINED    RCPT       CHUNKS
AFTER = {
    "EHLO": "READY READY READY READY READY READY",
    "HELO": "READY READY READY READY READY READY",
    "STARTTLS": "SWITCHING SWITCHING SWITCHING SWITCHING SWITCHING SWITCHING",
    "AUTH": "- READY - - - -",
    "MAIL": "- MAIL - - - -",
    "RCPT": "- - RCPT RCPT RCPT -",
    "DATA": "- - - - BODY -",
    "BDAT": "- - - - CHUNKS CHUNKS",
    "RSET": "START READY READY READY READY READY",
    "NOOP": "START READY MAIL DECLINED RCPT CHUNKS",
    "VRFY": "START READY MAIL DECLINED RCPT CHUNKS",
    "HELP": "START READY MAIL DECLINED RCPT CHUNKS",
    "QUIT": "CLOSED CLOSED CLOSED CLOSED CLOSED CLOSED",
}
STATES = ["START", "READY", "MAIL", "DECLINED", "RCPT", "CHUNKS"]
CELLS = [(name, STATES[i], after) for name, row in AFTER.items() for i, after in enumerate(row.split())]


def said(name: str) -> bytes:
    """The line of a command with its CRLF; behind BDAT its octet."""
    return LINES[name].encode() + (b"" if name == "BDAT" else b"\r\n")


def dialogue_in(state: str) -> Dialogue:
    dialogue = Dialogue(starttls=True, require_hello=True, handshake=False, extensions=frozenset({"CHUNKING"}))
    dialogue.connection.offer(("PLAIN",))
    dialogue.answers["RcptTo"] = [Reply(550, "No")] if state == "DECLINED" else []
    whole = ["EHLO", "MAIL", "RCPT", *(["BDAT"] if state == "CHUNKS" else [])]
    for line in {"START": [], "READY": ["EHLO"], "MAIL": ["EHLO", "MAIL"]}.get(state, whole):
        dialogue.says(said(line))
    assert dialogue.connection.state is State[state]
    return dialogue


def pass_chunk(dialogue: Dialogue) -> None:
    """Take events up to the one that a reply is owed for."""
    while isinstance(dialogue.connection.next_event(), Chunk | BodyChunk):
        pass
    assert dialogue.connection.next_event() is PAUSED


def test_every_command_is_told_twice() -> None:
    assert [name.decode() for name in COMMANDS] == list(AFTER) == list(LINES)


@pytest.mark.parametrize(("name", "state", "after"), CELLS)
def test_a_positive_reply(name: str, state: str, after: str) -> None:
    dialogue = dialogue_in(state)
    lines = dialogue.says(said(name))
    if after == "-":
        assert isinstance(dialogue.events[-1], BadCommand)
        assert lines[-1][:9] == ("554 5.5.1" if (name in {"DATA", "BDAT"} and state == "DECLINED") else "503 5.5.1")
        after = "DECLINED" if (name, state) == ("RCPT", "MAIL") else state
    else:
        assert int(lines[-1][0]) == COMMANDS[name.encode()].reply_class
    assert dialogue.connection.state is State[after]


@pytest.mark.parametrize(("name", "state", "after"), [cell for cell in CELLS if cell[2] != "-"])
def test_a_negative_reply(name: str, state: str, after: str) -> None:
    dialogue = dialogue_in(state)
    dialogue.connection.receive_data(said(name))
    pass_chunk(dialogue)
    dialogue.connection.send(Reply(550, "No", "5.7.1"))
    after = "DECLINED" if (name, state) == ("RCPT", "MAIL") else "READY" if name == "BDAT" else state
    assert dialogue.connection.state is State[after]


@pytest.mark.parametrize(("name", "state", "after"), [cell for cell in CELLS if cell[2] != "-"])
def test_421(name: str, state: str, after: str) -> None:
    dialogue = dialogue_in(state)
    dialogue.connection.receive_data(said(name))
    pass_chunk(dialogue)
    dialogue.connection.send(Reply(421, "Going down", "4.3.2"))
    assert dialogue.connection.closed


def test_columns() -> None:
    rows = COMMANDS.values()
    assert {row.name: row.phase for row in rows if row.phase} == {
        "EHLO": "ehlo", "HELO": "ehlo", "AUTH": "auth", "MAIL": "mailfrom", "RCPT": "rcptto", "DATA": "data",
        "BDAT": "data",
    }  # fmt: skip
    assert {row.phase for row in (BANNER, HANDSHAKE, END_OF_BODY)} == {"connect", "starttls", "data_spool"}
    assert [row.name for row in rows if not row.ends_group] == ["MAIL", "RCPT", "RSET"]
    assert [row.name for row in rows if row.before_tls] == ["EHLO", "HELO", "STARTTLS", "NOOP", "QUIT"]
    assert [row.name for row in rows if not row.enhanced] == ["EHLO", "HELO"]


def test_rows_without_a_line() -> None:
    assert dict(BANNER.moves) == {State.CONNECTED: State.READY}
    assert dict(BANNER_HELLO_DEMANDED.moves) == {State.CONNECTED: State.START}
    assert dict(BANNER.refused) == dict(BANNER_HELLO_DEMANDED.refused) == {State.CONNECTED: State.REFUSED}
    assert (
        dict(END_OF_BODY.moves)
        == dict(END_OF_BODY.refused)
        == {
            State.BODY: State.READY,
            State.CHUNK: State.READY,
        }
    )
    assert dict(END_OF_CHUNK.moves) == {State.CHUNK: State.CHUNKS}
    assert dict(END_OF_CHUNK.refused) == {State.CHUNK: State.READY}
    assert dict(RESPONSE.moves) == dict(RESPONSE.refused) == {State.AUTH: State.READY}
    assert RESPONSE.continued is COMMANDS[b"AUTH"].continued is State.AUTH
    assert dict(HANDSHAKE.moves) == {State.SWITCHING: State.START}
    assert not MISTAKE.moves
    assert not MISTAKE.refused
    assert not HARD_ERROR.moves
    assert set(HARD_ERROR.refused.values()) == {State.CLOSED}
