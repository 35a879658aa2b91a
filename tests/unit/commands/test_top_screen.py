"""Lines of `triosmtp top` fit the terminal, and hold only printable characters."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from triosmtp.commands.top_screen import fit


def width(text: str) -> int:
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


@given(st.text(max_size=100), st.integers(1, 80))
def test_no_line_is_wider_than_the_terminal(text: str, columns: int) -> None:
    line = fit(text, columns)
    assert line.isprintable()
    assert width(line) <= columns


def test_a_line_that_is_too_long_ends_with_an_ellipsis() -> None:
    assert fit("abc", 3) == "abc"
    assert fit("abcd", 3) == "ab…"
    assert fit("日本語", 5) == "日本…"


def test_control_characters_become_question_marks() -> None:
    assert fit("a\x1b[2J\x07b\n", 20) == "a?[2J?b?"
