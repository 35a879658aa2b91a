"""XCLIENT and XFORWARD for a hop."""

from attrs import evolve
from scripted_hop import ORIGIN

from triosmtp.next_hop.hop_client import xclient_lines, xforward_lines
from triosmtp.smtp.extensions import Extensions
from triosmtp.smtp.reply_parser import ReceivedReply


def offered(line: str) -> Extensions:
    return Extensions.of(ReceivedReply(250, ("mx", line)))


def test_attributes_that_are_not_offered_are_not_sent() -> None:
    assert xclient_lines(offered("XCLIENT ADDR LOGIN"), ORIGIN) == [b"XCLIENT ADDR=192.0.2.1 LOGIN=[UNAVAILABLE]\r\n"]
    assert xclient_lines(offered("XCLIENT"), ORIGIN) == []
    assert xforward_lines(offered("XFORWARD ident source"), ORIGIN) == [b"XFORWARD IDENT=S1 SOURCE=REMOTE\r\n"]


def test_a_client_on_a_unix_socket_with_a_hostile_name() -> None:
    client = evolve(ORIGIN, address=None, peer="unix:1000", helo="a b\r\nQUIT", name="", extended=False)
    lines = xforward_lines(offered("XFORWARD NAME ADDR PORT PROTO HELO"), client)
    assert lines == [b"XFORWARD NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE] PORT=1000 PROTO=SMTP HELO=a+20b+0D+0AQUIT\r\n"]


def test_a_login_that_was_only_announced_is_not_passed_on() -> None:
    for mechanism, expected in (("PLAIN", b"joe"), ("XCLIENT", b"[UNAVAILABLE]")):
        client = evolve(ORIGIN, auth_user="joe", auth_mechanism=mechanism)
        assert xclient_lines(offered("XCLIENT LOGIN"), client) == [b"XCLIENT LOGIN=" + expected + b"\r\n"]


def test_long_names_make_no_second_command() -> None:
    client = evolve(ORIGIN, name="n" * 250, helo="h" * 250)
    (line,) = xclient_lines(offered("XCLIENT NAME ADDR PORT PROTO HELO LOGIN"), client)
    assert b"NAME=[UNAVAILABLE]" in line
    assert b"ADDR=192.0.2.1" in line
    assert len(xforward_lines(offered("XFORWARD NAME ADDR PORT PROTO HELO"), client)) == 2
