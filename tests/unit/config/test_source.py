"""Source texts: positions, lines that are shown, and the bounds on problems."""

import pytest
from config_text import LISTENER

from triosmtp.config import parse_config
from triosmtp.config.source import Place, Problems, Source
from triosmtp.errors import ConfigError, Position


def test_the_hundredth_error_is_the_last() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config("Foo = 1\n" * 50_000)
    assert len(caught.value.problems) == 101
    assert caught.value.problems[-1].message == "100 errors: the rest was not read"


def test_warnings_are_bounded_too() -> None:
    config = parse_config("Retry_Interval = 1\n" * 5_000 + LISTENER)
    assert len(config.warnings) == 1001
    assert config.warnings[-1].message == "more than 1000 warnings: the rest is left out"


def test_a_very_long_line_is_cut() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(" " * 100_000 + "Foo = 1" + " " * 100_000)
    assert len(str(caught.value)) < 2000
    assert "<string>:1:100001: error: unknown option Foo" in str(caught.value)


def test_a_position_counts_lines_and_columns_from_1() -> None:
    source = Source("e.conf", "ab\n\tc\x07\n")
    assert [str(source.position(offset)) for offset in (0, 2, 3, 5, 7)] == [
        "e.conf:1:1", "e.conf:1:3", "e.conf:2:1", "e.conf:2:3", "e.conf:3:1",
    ]  # fmt: skip
    assert source.shown(source.position(4)) == "\tc\N{REPLACEMENT CHARACTER}"
    assert source.shown(Position("e.conf", 1, 401)) == ""


def test_problems_are_ordered_by_file_and_place_and_a_repeated_error_counts_once() -> None:
    one, other = Source("one", "abc"), Source("other", "abc")
    problems = Problems()
    problems.warn(Place(one, 2), "c")
    problems.error(Place(other, 1), "b")
    assert problems.has_errors
    problems.error(Place(one, 0), "a")
    problems.error(Place(one, 0), "a")
    assert [(str(each.position), each.message) for each in problems.in_order()] == [
        ("one:1:1", "a"), ("one:1:3", "c"), ("other:1:2", "b"),
    ]  # fmt: skip
