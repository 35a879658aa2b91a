"""Replies: their consequences, and accept() with the same result as send()."""

import pytest
from smtp_dialogue import ENVELOPE, HOST, Dialogue, codes, greeted
from smtp_table import CELLS, dialogue_in, pass_chunk, said

from triosmtp.smtp import (
    NEED_DATA,
    PAUSED,
    BadCommand,
    BodyEnd,
    Connection,
    ConnectionSettings,
    Reply,
)

RULES = ConnectionSettings(hostname=HOST, extensions=frozenset({"DSN", "CHUNKING", "BINARYMIME"}))
SLOTS = [slot for each in Connection.__mro__ for slot in getattr(each, "__slots__", ())]


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
            {key: getattr(each.connection, key) for key in SLOTS if key not in {"settings", "_body"}}
            for each in (sent, accepted)
        )
        assert first == second
        if after != state:
            break
        for dialogue in (sent, accepted):
            dialogue.connection.receive_data(said(name))
            pass_chunk(dialogue)


def test_events_that_accept_cannot_answer() -> None:
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


def test_rendered_replies_are_kept_with_the_settings() -> None:
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


def test_the_state_of_the_dialogue() -> None:
    """The attributes that a driver reads at each turn follow the state, however it was reached."""
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


class TestRefuse:
    def test_every_command_but_quit_gets_the_refusal(self) -> None:
        dialogue = Dialogue()
        dialogue.connection.refuse_commands(Reply(550, "A valid certificate is required", "5.7.1"))
        lines = dialogue.says("EHLO x", *ENVELOPE, "RUBBISH", b"x\n\r\n", "x" * 3000, "QUIT now")
        assert lines == ["550 A valid certificate is required"] + ["550 5.7.1 A valid certificate is required"] * 6
        assert dialogue.names == ["BadCommand"] * 7
        assert dialogue.says("QUIT") == ["221 2.0.0 Bye"]

    def test_a_client_that_continues_for_ever_is_disconnected(self) -> None:
        dialogue = Dialogue(max_command_errors=2)
        dialogue.connection.refuse_commands(Reply(550, "A valid certificate is required", "5.7.1"))
        assert codes(dialogue.says(*["NOOP"] * 4)) == [550, 550, 421]

    def test_421_closes(self) -> None:
        dialogue = Dialogue()
        dialogue.connection.refuse_commands(Reply(421, "No", "4.7.0"))
        assert dialogue.says("NOOP", "NOOP") == ["421 4.7.0 No"]
        assert dialogue.connection.closed


class TestSend:
    def test_421_at_any_time(self) -> None:
        dialogue = greeted()
        dialogue.says(*ENVELOPE, "DATA", "half a mess")
        assert dialogue.connection.send(Reply(421, "Going down", "4.3.2")) == b"421 4.3.2 Going down\r\n"
        assert dialogue.connection.closed
        with pytest.raises(RuntimeError, match="no reply is owed"):
            dialogue.connection.send(Reply(421, "Twice"))

    @pytest.mark.parametrize("reply", [None, Reply(250, "Ok"), Reply(550, "No")])
    def test_a_reply_without_an_event_is_an_error(self, reply: Reply | None) -> None:
        with pytest.raises(RuntimeError, match="no reply is owed"):
            Dialogue().connection.send(reply)

    @pytest.mark.parametrize(
        ("line", "code"), [("DATA", 250), ("NOOP", 354), ("RUBBISH", 250), ("MAIL FROM:<>", 250), ("DATA", 220)]
    )
    def test_a_positive_reply_must_fit(self, line: str, code: int) -> None:
        dialogue = greeted()
        dialogue.says(*ENVELOPE)
        dialogue.connection.receive_data(line.encode() + b"\r\n")
        assert dialogue.connection.next_event() is not PAUSED
        with pytest.raises(RuntimeError, match="does not answer"):
            dialogue.connection.send(Reply(code, "Ok"))
        assert dialogue.connection.next_event() is PAUSED

    def test_a_faulty_body_cannot_be_accepted(self) -> None:
        connection = greeted(max_message_size=1).connection
        connection.receive_data(b"MAIL FROM:<>\r\n")
        for data in (b"RCPT TO:<postmaster>\r\n", b"DATA\r\n", b"xx\r\n.\r\n"):
            connection.next_event()
            connection.send()
            connection.receive_data(data)
        while not isinstance(connection.next_event(), BodyEnd):
            pass
        with pytest.raises(RuntimeError, match="in error"):
            connection.send(Reply(250, "Ok"))
        assert connection.send() == b"552 5.3.4 Message size exceeds the fixed limit\r\n"

    def test_handshake_out_of_place(self) -> None:
        with pytest.raises(RuntimeError, match="no handshake"):
            Dialogue().connection.tls_started()

    @pytest.mark.parametrize("code", [221, 421])
    def test_replies_that_close(self, code: int) -> None:
        dialogue = greeted()
        dialogue.answers["Noop"] = [Reply(code, "Bye")]
        assert codes(dialogue.says("NOOP", "NOOP")) == [code]
        assert dialogue.connection.closed

    def test_a_pipelined_group_is_answered_before_more_is_read(self) -> None:
        """All replies are returned before NEED_DATA, so that the caller writes them at once (RFC 2920, section 3.2)."""
        connection = greeted().connection
        connection.receive_data(b"MAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nRSET\r\nNOOP\r\nRUBBISH\r\nVR")
        wire = []
        while connection.next_event() is not NEED_DATA:
            wire.append(connection.accept()[:3])
        assert wire == [b"250", b"250", b"250", b"250", b"500"]


def test_accept_takes_another_positive_reply_as_it_is_written() -> None:
    sent, accepted = dialogue_in("RCPT"), dialogue_in("RCPT")
    for dialogue in (sent, accepted):
        dialogue.connection.receive_data(b"DATA\r\n")
        dialogue.connection.next_event()
        dialogue.connection.accept()
        dialogue.connection.receive_data(b"x: y\r\n\r\n.\r\n")
        assert isinstance(dialogue.connection.next_event(), BodyEnd)
    wire = sent.connection.send(Reply(250, "Ok: queued as 1", "2.0.0"))
    assert accepted.connection.accept(b"250 2.0.0 Ok: queued as 1\r\n") == wire
    assert accepted.connection.state is sent.connection.state
