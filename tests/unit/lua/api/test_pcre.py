"""Regular expressions of scripts: PCRE's syntax, and limits for each search."""

import pytest

from triosmtp.lua.api import pcre
from triosmtp.lua.api.pcre import LARGE, PatternError, compile_pattern, match, replace, split


@pytest.mark.parametrize(
    ("pattern", "subject", "found"),
    [
        (rb"^mx\d+\.partner\.example$", b"mx12.partner.example", {0: b"mx12.partner.example"}),
        (rb"(?P<user>\w+)@(\w+)", b"<ann@example>", {0: b"ann@example", 1: b"ann", 2: b"example", b"user": b"ann"}),
        (rb"(?<n>a)\k<n>", b"baa", {0: b"aa", 1: b"a", b"n": b"a"}),
        (rb"(a)|(b)", b"b", {0: b"b", 1: b"", 2: b"b"}),
        (rb"\Qa.b\E", b"a+b a.b", {0: b"a.b"}),
        (rb"(?U)a+", b"aaa", {0: b"a"}),
        (rb"a{,3}", b"a{,3}", {0: b"a{,3}"}),
        (rb"\x{41}\R[[:digit:]]++", b"A\r\n17", {0: b"A\r\n17"}),
        (rb"a\Kb", b"ab", {0: b"b"}),
        (rb"(?|(a)x|(b)y)", b"by", {0: b"by", 1: b"b"}),
        (rb"\y", b"xyz", {0: b"y"}),  # PCRE 1 takes an unknown escape for its letter
        (rb"^", b"", {0: b""}),
        (b"(*UTF8)^.$", "é".encode(), {0: "é".encode()}),
        (b"^.$", "é".encode(), None),
        (b"(?i)STRASSE", b"strasse", {0: b"strasse"}),
        (b"\0b", b"a\0b", {0: b"\0b"}),
        (b"(?J)(?<n>a)|(?<n>b)", b"b", {0: b"b", 1: b"", 2: b"b", b"n": b"b"}),
    ],
)
def test_patterns_are_those_of_pcre(pattern: bytes, subject: bytes, found: dict[int | bytes, bytes] | None) -> None:
    assert match(subject, pattern) == found


@pytest.mark.parametrize("at", [0, 255, 256, 257, 767, 768, 5000, 100_000])
def test_a_search_in_pieces_finds_what_begins_in_any_of_them(at: int) -> None:
    assert match(b"x" * at + b"needle" + b"x" * 300, b"n(?=eedle)[a-z]+e(?=x)", LARGE) is not None
    assert match(b"x" * at + b"needl" + b"x" * 300, b"needle|[^x]dle$", LARGE) is None


@pytest.mark.parametrize("before", [0, 100, 300])
def test_one_position_that_needs_many_steps_does_not_end_the_search(before: int) -> None:
    subject = b"-" * before + b"a" * 12 + b"-" + b"b"
    assert match(subject, rb"(a|a)+c|b", LARGE) == {0: b"b", 1: b""}


@pytest.mark.parametrize(
    ("pattern", "subject"),
    [
        (rb"(a+)+$", b"a" * 40 + b"!"),
        (rb"(a|aa)+$", b"a" * 300 + b"!"),
        (rb"^(([a-z])+.)+[A-Z]([a-z])+$", b"a" * 1000),
        (b"(?:a?)" * 5000 + b"a" * 5000, b"a" * 5000),
        (rb"(a?){5000}a{5000}", b"a" * 5000),
        (rb"(a+)\1+$", b"a" * 4095 + b"!"),
    ],
)
def test_a_pattern_bomb_is_cut_off(pattern: bytes, subject: bytes) -> None:
    with pytest.raises(PatternError) as caught:
        match(subject, pattern)
    assert caught.value.is_limit


@pytest.mark.parametrize(
    "pattern", [b"(", rb"((a{1,1000}){1,1000}){1,1000}", b"(" * 5000 + b"a" + b")" * 5000, b"x" * 70_000, b"(?R)?a"]
)
def test_a_pattern_that_is_malformed_or_too_large_is_an_error(pattern: bytes) -> None:
    with pytest.raises(PatternError) as caught:
        match(b"a", pattern)
    assert not caught.value.is_limit


def test_an_error_says_where_the_pattern_is_malformed() -> None:
    with pytest.raises(PatternError, match="missing closing parenthesis at offset 2"):
        compile_pattern(b"a(")


@pytest.mark.parametrize(
    ("subject", "pattern", "new", "result"),
    [
        (b"a1b22", rb"\d", b"<$0>", b"a<1>b<2><2>"),
        (b"a1b2", rb"(?<d>\d)", rb"[${d}$1\1$$]$9", b"a[111$]b[222$]"),
        (b"baac", b"a*", b"-", b"-b--c-"),
        ("éb".encode(), b"(*UTF)", b"-", "-é-b-".encode()),
        (b"abc", b"x", b"-", b"abc"),
        (b"", b"x*", b"-", b"-"),
    ],
)
def test_replace_replaces_all_matches(subject: bytes, pattern: bytes, new: bytes, result: bytes) -> None:
    assert replace(subject, pattern, new) == result


def test_the_result_of_a_replacement_is_bounded() -> None:
    with pytest.raises(PatternError, match="too long"):
        replace(b"a" * 1000, b"a", b"x" * 10_000, LARGE)


@pytest.mark.parametrize(
    ("subject", "pattern", "parts"),
    [
        (b"a,b,,c", b",", [b"a", b"b", b"", b"c"]),
        (b",a,", b",", [b"", b"a", b""]),
        (b"abc", b",", [b"abc"]),
        (b"abc", b"", [b"a", b"b", b"c"]),
        (b"", b",", []),
    ],
)
def test_split_returns_the_parts(subject: bytes, pattern: bytes, parts: list[bytes]) -> None:
    assert split(subject, pattern) == parts


def test_a_missing_library_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcre, "_LIBRARY", "libpcre2-8.so.missing")
    pcre._library.cache_clear()
    try:
        with pytest.raises(PatternError, match="install libpcre2-8"):
            match(b"a", b"a pattern that is in no cache")
    finally:
        pcre._library.cache_clear()
