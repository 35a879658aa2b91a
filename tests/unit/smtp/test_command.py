"""The table, row by row and state by state, against a second version of it."""

import pytest
from smtp_table import AFTER, CELLS, LINES, dialogue_in, pass_chunk, said

from triosmtp.smtp import COMMANDS, BadCommand, Reply, State
from triosmtp.smtp.command import (
    BAD_COMMAND,
    BANNER,
    BANNER_HELLO_REQUIRED,
    END_OF_BODY,
    END_OF_CHUNK,
    FATAL,
    HANDSHAKE,
    IN_ORDER,
    RESPONSE,
)


def test_the_tables_of_commands_have_the_same_names() -> None:
    assert [name.decode() for name in COMMANDS] == list(AFTER) == list(LINES)


@pytest.mark.parametrize(("name", "state", "after"), CELLS)
def test_a_positive_reply(name: str, state: str, after: str) -> None:
    dialogue = dialogue_in(state)
    lines = dialogue.says(said(name))
    if after == "-":
        assert isinstance(dialogue.events[-1], BadCommand)
        assert lines[-1][:9] == ("554 5.5.1" if (name in {"DATA", "BDAT"} and state == "RCPT_REFUSED") else "503 5.5.1")
        after = "RCPT_REFUSED" if (name, state) == ("RCPT", "MAIL") else state
    else:
        assert int(lines[-1][0]) == COMMANDS[name.encode()].reply_class
    assert dialogue.connection.state is State[after]


@pytest.mark.parametrize(("name", "state", "after"), [cell for cell in CELLS if cell[2] != "-"])
def test_a_negative_reply(name: str, state: str, after: str) -> None:
    dialogue = dialogue_in(state)
    dialogue.connection.receive_data(said(name))
    pass_chunk(dialogue)
    dialogue.connection.send(Reply(550, "No", "5.7.1"))
    after = "RCPT_REFUSED" if (name, state) == ("RCPT", "MAIL") else "READY" if name == "BDAT" else state
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
    assert [row.name for row in rows if row.junk] == ["EHLO", "HELO", "AUTH", "RSET", "NOOP", "VRFY", "HELP"]
    assert [row.name for row in rows if row.excuses_pipelined] == ["MAIL", "RCPT"]
    assert [row.name for row in rows if row.depends_on_previous] == ["RCPT", "DATA", "BDAT"]
    assert [row.name for row in rows if row.before_tls] == ["EHLO", "HELO", "STARTTLS", "NOOP", "QUIT"]
    assert [row.name for row in rows if not row.enhanced] == ["EHLO", "HELO"]


def test_rows_without_a_line() -> None:
    assert dict(BANNER.transitions) == {State.CONNECTED: State.READY}
    assert dict(BANNER_HELLO_REQUIRED.transitions) == {State.CONNECTED: State.START}
    assert dict(BANNER.refused) == dict(BANNER_HELLO_REQUIRED.refused) == {State.CONNECTED: State.REFUSED}
    assert (
        dict(END_OF_BODY.transitions)
        == dict(END_OF_BODY.refused)
        == {
            State.BODY: State.READY,
            State.CHUNK: State.READY,
        }
    )
    assert dict(END_OF_CHUNK.transitions) == {State.CHUNK: State.CHUNKS}
    assert dict(END_OF_CHUNK.refused) == {State.CHUNK: State.READY}
    assert dict(RESPONSE.transitions) == dict(RESPONSE.refused) == {State.AUTH: State.READY}
    assert RESPONSE.continued is COMMANDS[b"AUTH"].continued is State.AUTH
    assert dict(HANDSHAKE.transitions) == {State.SWITCHING: State.START}
    assert not BAD_COMMAND.transitions
    assert not BAD_COMMAND.refused
    assert not FATAL.transitions
    assert set(FATAL.refused.values()) == {State.CLOSED}


def test_commands_in_sequence() -> None:
    """The look-up by state agrees with the rows.  BDAT is absent: its line is read strictly."""
    for state in State:
        expected = {verb for verb, row in COMMANDS.items() if state in row.transitions} - {b"BDAT"}
        assert IN_ORDER[state].keys() == expected
        assert all(IN_ORDER[state][verb] is COMMANDS[verb] for verb in expected)
