"""Replies on the wire."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triosmtp.smtp import Reply


@pytest.mark.parametrize(
    ("reply", "wire"),
    [
        (Reply(250, "Ok"), b"250 Ok\r\n"),
        (Reply(250, "Ok", "2.0.0"), b"250 2.0.0 Ok\r\n"),
        (Reply(250, ""), b"250 \r\n"),
        (Reply(250, ()), b"250 \r\n"),
        (Reply(550, ("one", "two"), "5.7.1"), b"550-5.7.1 one\r\n550 5.7.1 two\r\n"),
        (Reply(550, "one\ntwo\r\nthree"), b"550-one\r\n550-two\r\n550 three\r\n"),
        (Reply(550, "forged\r\n250 Ok"), b"550-forged\r\n550 250 Ok\r\n"),
        (Reply(550, "a\0b\tc\x1bd"), b"550 a?b?c?d\r\n"),
        (Reply(550, "\u00fc"), b"550 ?\r\n"),
        (Reply(550, "x" * 900), b"550 " + b"x" * 480 + b"\r\n"),
    ],
)
def test_render(reply: Reply, wire: bytes) -> None:
    assert reply.render() == wire


def test_without_enhanced_codes() -> None:
    assert Reply(250, ("a", "b"), "2.0.0").render(enhanced=False) == b"250-a\r\n250 b\r\n"
    assert Reply(250, "a", "2.0.0").render(enhanced=False) == b"250 a\r\n"


def test_utf8() -> None:
    assert Reply(550, "\u00fc").render(utf8=True) == "550 \u00fc\r\n".encode()
    assert Reply(550, "\u00fc" * 300).render(utf8=True) == b"550 " + "\u00fc".encode() * 240 + b"\r\n"
    assert Reply(550, "x" + "\u00fc" * 300).render(utf8=True) == b"550 x" + "\u00fc".encode() * 239 + b"\r\n"


def test_class() -> None:
    assert [Reply(code, "").positive for code in (220, 354, 421, 550)] == [True, True, False, False]


@given(st.text(), st.booleans(), st.sampled_from([None, "5.7.1"]))
def test_no_text_breaks_a_reply(text: str, utf8: bool, enhanced: str | None) -> None:
    wire = Reply(550, text, enhanced).render(utf8=utf8)
    *continued, last, nothing = wire.split(b"\r\n")
    assert nothing == b""
    assert all(re.fullmatch(rb"550-[^\x00-\x1f\x7f]*", line) for line in continued)
    assert re.fullmatch(rb"550 [^\x00-\x1f\x7f]*", last)
    assert all(len(line) <= 510 for line in [*continued, last])
    assert utf8 or wire.isascii()
    assert wire.decode()
