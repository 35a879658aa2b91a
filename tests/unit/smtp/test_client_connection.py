"""One connection as its client: which reply answers which command, and what shifts nothing."""

import pytest

from triosmtp.smtp.client_command import rcpt_command
from triosmtp.smtp.client_connection import BANNER, CLOSING, END_OF_DATA, ClientConnection
from triosmtp.smtp.mail_address import Address
from triosmtp.smtp.reply_parser import ReplyError


def answers(client: ClientConnection, data: bytes) -> list[tuple[str, int]]:
    """Return the steps that ``data`` answers, with the codes."""
    client.receive_data(data)
    found = []
    while (answer := client.next_reply()) is not None:
        found.append((answer[0], answer[1].code))
    return found


def greeted(*, lmtp: bool = False, extensions: bytes = b"250 PIPELINING\r\n") -> ClientConnection:
    client = ClientConnection(lmtp=lmtp)
    assert answers(client, b"220 hi\r\n") == [(BANNER, 220)]
    client.send(client.hello_verb().encode() + b" me\r\n")
    assert answers(client, b"250-mx\r\n" + extensions) == [(client.hello_verb(), 250)]
    return client


def test_extensions() -> None:
    client = greeted()
    found = [client.pipelining]
    client.send(b"HELO me\r\n")
    assert answers(client, b"250-mx\r\n250 PIPELINING\r\n") == [("HELO", 250)]
    found.append(client.pipelining)
    client.send(b"EHLO me\r\n")
    assert answers(client, b"502-no\r\n502 PIPELINING\r\n") == [("EHLO", 502)]
    found.append(client.pipelining)
    assert found == [True, False, False], "HELO and a refusal offer nothing"


def test_pipelined_replies_answer_in_order() -> None:
    client = greeted()
    for line in (
        b"MAIL FROM:<>\r\n",
        rcpt_command(Address("a", "b"), {}),
        rcpt_command(Address("c", "d"), {}),
        b"DATA\r\n",
    ):
        assert client.send(line) == line
    assert client.outstanding == 4
    assert answers(client, b"250 a\r\n550 b\r\n250 c\r\n354 d\r\n") == [
        ("MAIL", 250), ("RCPT", 550), ("RCPT", 250), ("DATA", 354),
    ]  # fmt: skip
    assert client.accepted == 1
    assert client.send_body(b".x\n") == b"..x\r\n"
    assert client.end_body() == b".\r\n"
    assert answers(client, b"250 e\r\n") == [(END_OF_DATA, 250)]
    assert client.accepted == 0


def test_lmtp_answers_each_accepted_recipient() -> None:
    client = greeted(lmtp=True)
    for code in (b"250", b"550", b"250"):
        client.send(b"RCPT TO:<a@b>\r\n")
        answers(client, code + b" x\r\n")
    client.send(b"DATA\r\n")
    answers(client, b"354 go\r\n")
    client.send_body(b"x")
    client.end_body()
    assert client.outstanding == 2
    assert answers(client, b"250 a\r\n452 b\r\n") == [(END_OF_DATA, 250), (END_OF_DATA, 452)]
    client.send(b"RCPT TO:<a@b>\r\n")
    answers(client, b"250 x\r\n")
    assert client.send_last_chunk(3) == b"BDAT 3 LAST\r\n"
    assert client.outstanding == 1
    client.send(b"RSET\r\n")
    assert answers(client, b"250 a\r\n250 b\r\n") == [(END_OF_DATA, 250), ("RSET", 250)]


def test_two_bodies_share_no_state() -> None:
    client = greeted()
    client.send_body(b"a\r")
    assert client.end_body() == b"\r\n.\r\n"
    answers(client, b"250 x\r\n")
    assert client.send_body(b"\n.") == b"\r\n.."
    assert client.end_body() == b"\r\n.\r\n"


def test_a_reply_to_nothing() -> None:
    client = greeted()
    assert answers(client, b"421 closing\r\n") == [(CLOSING, 421)]
    with pytest.raises(ReplyError, match="a reply to no command: 250 Ok"):
        answers(client, b"250 Ok\r\n")


@pytest.mark.parametrize(
    "line", [b"RSET", b"RSET\n", b"RSET\r\nDATA\r\n", b"RS\nET\r\n", b"RS\rET\r\n", b"", b"\r\n\r\n"]
)
def test_a_command_is_one_line(line: bytes) -> None:
    with pytest.raises(ValueError, match="one line"):
        greeted().send(line)


@pytest.mark.parametrize("behind", [b"250 injected\r\n", b"2", b"250-x\r\n"])
def test_octets_behind_starttls(behind: bytes) -> None:
    client = greeted()
    client.send(b"STARTTLS\r\n")
    client.receive_data(b"220 Go\r\n" + behind)
    client.next_reply()
    with pytest.raises(ReplyError, match="behind the 220 to STARTTLS"):
        client.start_tls()


def test_tls_forgets_the_extensions() -> None:
    client = greeted()
    client.send(b"STARTTLS\r\n")
    assert answers(client, b"220 Go\r\n") == [("STARTTLS", 220)]
    client.start_tls()
    assert not client.extensions.keywords
