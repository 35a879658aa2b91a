"""Audit series, gauge caches and named counters."""

import pytest

from triosmtp.lua.api import rate_counters
from triosmtp.lua.api.rate_counters import CounterError, GaugeCache, NamedCounters, Series


def test_a_series_counts_in_windows() -> None:
    series = Series("string", 60, 3)
    for now, count in ((0, 1), (59, 2), (60, 4), (130, 8)):
        series.add("key", count, now)
    assert [series.count("key", n, n, 130) for n in range(4)] == [8, 4, 3, 0]
    assert series.count("key", 0, 2, 130) == series.count("key", 2, 0, 130) == 15
    assert series.count("key", -5, 0, 130) == 8
    assert series.count("key", 0, 9, 185) == 12  # the oldest window has gone
    assert series.count("key", 0, 9, 100_000) == 0
    assert series.count("other", 0, 9, 130) == 0


def test_a_clock_that_goes_back_keeps_the_counts() -> None:
    series = Series("string", 60, 2)
    series.add("key", 1, 600)
    series.add("key", 1, 500)
    assert series.count("key", 0, 1, 600) == 2


def test_a_key_can_be_removed() -> None:
    series = Series("string", 60, 2)
    series.add("key", 1, 0)
    assert series.remove("key")
    assert not series.remove("key")
    assert series.count("key", 0, 0, 0) == 0


def test_a_series_forgets_its_oldest_key_when_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_counters, "MAX_KEYS", 3)
    series = Series("string", 60, 1)
    for key in "abcad":
        series.add(key, 1, 0)
    assert [series.count(key, 0, 0, 0) for key in "abcd"] == [2, 0, 1, 1]


def test_a_long_key_is_cut() -> None:
    series = Series("string", 60, 1)
    series.add("x" * 100_000, 1, 0)
    assert series.count("x" * 2000, 0, 0, 0) == 1


@pytest.mark.parametrize(
    ("kind", "seconds", "windows"), [("text", 60, 1), ("cidr", 0, 1), ("cidr", 60, 0), ("cidr", 1, 9999)]
)
def test_a_definition_is_checked(kind: str, seconds: float, windows: int) -> None:
    with pytest.raises(CounterError):
        Series(kind, seconds, windows)


def test_a_gauge_goes_up_and_down_and_ends() -> None:
    cache = GaugeCache(2, 10)
    assert [cache.change("a", 1, 0), cache.change("a", 1, 5), cache.change("a", -1, 9)] == [1, 2, 1]
    assert cache.value("missing", 0) == 0
    assert (cache.value("a", 18.9), cache.value("a", 19)) == (1, 0)
    assert cache.change("a", -1, 19) == -1
    cache.change("b", 5, 19)
    cache.change("c", 7, 19)
    assert [cache.value(key, 19) for key in "abc"] == [0, 5, 7]
    assert (cache.remove("b"), cache.remove("b"), cache.value("b", 19)) == (True, False, 0)
    assert GaugeCache(1, 0).value("x", 0) == 0
    with pytest.raises(CounterError):
        GaugeCache(0, 1)


def test_counters_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = NamedCounters()
    assert counters.open("a/b") == "a/b"
    assert [counters.add("a/b", 2), counters.add("a/b", -1), counters.read("a/b"), counters.read("x")] == [2, 1, 1, 0]
    counters.open("a/b")
    assert counters.read("a/b") == 1
    counters.reset("a/b")
    counters.reset("x")
    assert counters.read("a/b") == 0
    monkeypatch.setattr(rate_counters, "MAX_COUNTERS", 1)
    with pytest.raises(CounterError, match="already 1 counters"):
        counters.open("c")
    assert counters.unlink("a/b")
    assert not counters.unlink("a/b")
    assert counters.open("c") == "c"
