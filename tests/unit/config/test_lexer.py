"""The lexer: words, strings, escapes and characters, and the errors of each."""

from pathlib import Path

import pytest
from config_text import config_errors, read_settings

from triosmtp.config import load_config, parse_config
from triosmtp.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("/* a", "1:1: error: this comment is never closed: expected `*/`"),
        ("Idle_Time = 'a\n'", "1:13: error: this string does not end on its line: expected a closing '"),
        ('Banner_Hostname = "a\\"', '1:19: error: this string does not end on its line: expected a closing "'),
        (
            "Banner_Hostname = \xa0a",
            "1:19: error: expected an ordinary character, found the white space character U+00A0",
        ),
        ("Banner_Hostname = 'a\x00'", "1:19: error: this string holds the control character U+0000"),
        ("Context = [ a = 'b\n' ]", "1:17: error: this string does not end on its line: expected a closing '"),
        ("Context [ 'a\n' = b ]", "1:11: error: this string does not end on its line: expected a closing '"),
        ('Deliver_To = "discard:\n"', '1:14: error: this string does not end on its line: expected a closing "'),
        ("Static_Banner = '220 a\r\n250 b'", "1:17: error: this string does not end on its line"),
        ("Pathway 'a\nb' { }", "1:9: error: Pathway: this string does not end on its line"),
        ("include 'a\nb'", "1:9: error: this string does not end on its line"),
        ('Banner_Hostname = "a\nIdle_Time = "3"', "1:19: error: this string does not end on its line"),
        ('Retry_Interval = "a\nIdle_Tme = ""', "1:18: error: this string does not end on its line"),
        ('Retry_Interval = "a\rb"', "1:18: error: this string holds the white space character U+000D"),
    ],
)
def test_each_error_has_its_position_and_text(text: str, line: str) -> None:
    others = f"\n{config_errors(text)}".replace(
        "\ne.conf:1:1: error: no Listen is enabled: ", "\n"
    )  # which most lack, too
    assert f"\ne.conf:{line}" in others


def test_a_line_break_in_a_string_counts_as_a_line() -> None:
    config = parse_config('x { y = "a\nb\n" }\nRetry_Interval = 1 ESMTP_Listener { Listen ":25" { } }')
    assert [problem.position and problem.position.line for problem in config.warnings] == [1, 4]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (r'"a \"b\" c"', 'a "b" c'),
        (r'"a \\ b"', "a \\ b"),
        (r'"\\\""', '\\"'),
        (r'"\d+\."', r"\d+\."),
        (r"'a \ b'", "a \\ b"),
        ("'\"'", '"'),
        ('"it\'s # = { } [ ] ( ) /* */"', "it's # = { } [ ] ( ) /* */"),
        ('""', ""),
        ("a/b/c", "a/b/c"),
        ("a,b;c:d", "a,b;c:d"),
        ("a/* comment */", "a"),
        ("Grüße", "Grüße"),
    ],
)
def test_strings_and_words(written: str, expected: str) -> None:
    wrapped = written if not written.startswith("a,") else f'"{written}"'
    assert read_settings(f"Context = [ k = {wrapped} ]").context == {"k": expected}


def test_a_bare_word_outside_a_list_may_hold_a_comma() -> None:
    assert read_settings("TLS_Ciphers = AES128,AES256").tls_ciphers == "AES128,AES256"
    assert read_settings("TLS_Ciphers = ,AES256,").tls_ciphers == ",AES256,"


def test_a_file_of_another_system_with_latin_1_in_a_comment(tmp_path: Path) -> None:
    path = tmp_path / "e.conf"
    path.write_bytes(b"\xef\xbb\xbf# gr\xfc\xdfe\r\nESMTP_Listener {\r\n  Listen ':25' {\r\n  }\r\n}\r\n")
    assert load_config(path).listens[0].position.line == 3
    path.write_bytes(b"ESMTP_Listener { Listen ':25' { Context = [ a = 'gr\xfc' ] } }")
    with pytest.raises(ConfigError, match="1:49: error: this string holds the byte 0xFC, which is not UTF-8"):
        load_config(path)
