"""Encoded words: decoded for scripts, encoded for fields."""

import pytest

from triosmtp.lua.api.header_text import decode_text, decode_value, encode_value, unfold


@pytest.mark.parametrize(
    ("value", "decoded"),
    [
        (b"plain", "plain"),
        (b"=?utf-8?q?caf=C3=A9_x?=", "café x"),
        (b"=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?utf-8?b?w6k=?= and =?utf-8?B?w6k?=", "é and é"),
        (b"a =?utf-8?q?b?=c", "a bc"),
        (b"=?utf-8?b?w6=?= =?utf-8?b?qQ==?=", "é"),  # one character in two words
        (b"=?iso-2022-jp?b?GyRCJCIbKEI=?=", "あ"),
        (b"=?unknown?q?=C3=A9?=", "é"),
        (b"=?utf-8*en?q?x?=", "x"),
        (b"=?idna?q?xn--a?=", "xn--a"),
        (b"=?utf-8?q?broken", "=?utf-8?q?broken"),
        (b"=?utf-8?b?!?=", ""),
        (b"=?utf-8?q?=FF?=", "\ufffd"),
        (b"=?utf-7?q?+2AA-?=", "?"),
    ],
)
def test_encoded_words_are_decoded(value: bytes, decoded: str) -> None:
    assert decode_value(value).decode() == decoded


def test_a_folded_value_is_unfolded() -> None:
    assert unfold(b" a\r\n b\n\tc\r\n") == b"a b\tc"


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ("plain, <a@example>", "plain, <a@example>"),
        ("café", "=?UTF-8?B?Y2Fmw6k=?="),
        ("a café b", "a =?UTF-8?B?Y2Fmw6k=?= b"),
        ("é è", "=?UTF-8?B?w6kgw6g=?="),
        ('"Ünal" <u@example>, b@example', "=?UTF-8?B?w5xuYWw=?= <u@example>, b@example"),
    ],
)
def test_words_that_are_not_ascii_are_encoded(value: str, encoded: str) -> None:
    assert encode_value(value.encode()).decode() == encoded


def test_a_long_value_has_several_words_and_whole_characters() -> None:
    text = "é" * 200
    encoded = encode_value(text.encode())
    lines = encoded.split(b"\r\n ")
    assert len(lines) > 4
    assert max(map(len, lines)) <= 75
    assert all(decode_value(line).decode().strip("é") == "" for line in lines)
    assert decode_value(unfold(encoded)).decode() == text


def test_octets_that_are_no_text_become_replacement_characters() -> None:
    assert decode_value(encode_value(b"a\xffb")).decode() == "a\ufffdb"
    assert decode_text(b"\xff", "utf-8") == "\ufffd"
