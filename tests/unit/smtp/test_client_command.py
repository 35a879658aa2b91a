"""Commands of a client: what they look like, and that no argument makes two commands of one."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from triosmtp.smtp import Address, decode_xtext
from triosmtp.smtp.client_command import (
    CommandLineError,
    auth_command,
    auth_response,
    bdat_command,
    client_attributes,
    encode_xtext,
    hello_command,
    mail_command,
    rcpt_command,
)

HOSTILE = ["a\r\nRSET", "a\nb", "a\rb", "a\0b", "a> SIZE=1", "a b", "", "x" * 9000, "a\x85b", "\ud800", "a\u2028b"]


def test_mail_and_rcpt() -> None:
    sender = Address("a", "example.org")
    assert mail_command(sender, {}) == b"MAIL FROM:<a@example.org>\r\n"
    assert mail_command(Address.NULL, {"SIZE": "10", "SMTPUTF8": None}) == b"MAIL FROM:<> SIZE=10 SMTPUTF8\r\n"
    assert rcpt_command(Address("a b", "example.org"), {"NOTIFY": "NEVER"}) == (
        b'RCPT TO:<"a b"@example.org> NOTIFY=NEVER\r\n'
    )
    assert (
        rcpt_command(Address("\u00fc", "b\u00fccher.example"), {})
        == "RCPT TO:<\u00fc@b\u00fccher.example>\r\n".encode()
    )
    assert rcpt_command(Address("postmaster", ""), {}) == b"RCPT TO:<postmaster>\r\n"
    assert rcpt_command(Address("a", "[192.0.2.1]"), {}) == b"RCPT TO:<a@[192.0.2.1]>\r\n"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_arguments_are_errors(text: str) -> None:
    with pytest.raises(CommandLineError):
        hello_command("EHLO", text)
    with pytest.raises(CommandLineError):
        auth_command(text, None)
    for command in (mail_command, rcpt_command):
        with pytest.raises(CommandLineError):
            command(Address("a", "example.org", f"{text}@example.org>x"), {})
        with pytest.raises(CommandLineError):
            command(Address("a", "example.org"), {"SIZE=1 X": text})
    if text != "x" * 9000:  # no white space, no control character: one value
        with pytest.raises(CommandLineError):
            mail_command(Address.NULL, {"ENVID": text})


@given(st.text(max_size=12), st.text(max_size=12), st.one_of(st.none(), st.text(max_size=12)))
@example("a\r\nRCPT TO:<x", "example.org", None)
@example("a", "example.org>\r\nDATA", None)
@example("a", "example.org", "a@b>\r\nDATA\r\n<")
@example('"', "\\", None)
def test_whatever_a_policy_makes_of_an_address(local_part: str, domain: str, text: str | None) -> None:
    address = Address(local_part, domain) if text is None else Address(local_part, domain, text)
    try:
        line = rcpt_command(address, {"NOTIFY": local_part or None})
    except CommandLineError:
        return
    assert line.endswith(b"\r\n")
    assert not re.search(rb"[\x00-\x1f\x7f]", line[:-2])


def test_hello_bdat_auth() -> None:
    assert hello_command("LHLO", "[192.0.2.1]") == b"LHLO [192.0.2.1]\r\n"
    assert bdat_command(0, last=True) == b"BDAT 0 LAST\r\n"
    assert bdat_command(70, last=False) == b"BDAT 70\r\n"
    assert auth_command("PLAIN", b"\0u\0p") == b"AUTH PLAIN AHUAcA==\r\n"
    assert auth_command("EXTERNAL", b"") == b"AUTH EXTERNAL =\r\n"
    assert auth_command("LOGIN", None) == b"AUTH LOGIN\r\n"
    assert auth_response(b"u") == b"dQ==\r\n"
    assert auth_response(b"") == b"\r\n"
    assert auth_response(None) == b"*\r\n"


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_xtext(text: str) -> None:
    encoded = encode_xtext(text)
    assert decode_xtext(encoded) == text
    assert re.fullmatch(r"[!-~]*", encoded)
    assert "=" not in encoded


def test_attributes() -> None:
    attributes = {"NAME": "a b+c=d\r\nQUIT", "ADDR": "IPV6:::1", "PORT": None, "HELO": "x" * 300, "LOGIN": "u"}
    assert client_attributes("XFORWARD", attributes, {"name", "ADDR", "PORT", "HELO"}) == [
        b"XFORWARD NAME=a+20b+2Bc+3Dd+0D+0AQUIT ADDR=IPV6:::1 PORT=[UNAVAILABLE] HELO=[UNAVAILABLE]\r\n"
    ]
    assert client_attributes("XFORWARD", attributes, {"IDENT"}) == []


def test_attributes_of_several_lines() -> None:
    attributes = dict.fromkeys(("NAME", "HELO", "LOGIN", "IDENT"), "x" * 250)
    lines = client_attributes("XCLIENT", attributes, attributes)
    assert len(lines) == 4
    assert all(len(line) <= 512 and line.startswith(b"XCLIENT ") and line.endswith(b"\r\n") for line in lines)
    assert b"".join(lines).count(b"=") == 4
