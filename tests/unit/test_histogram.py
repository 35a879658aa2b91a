"""Histograms: buckets with inclusive upper bounds, and the sum."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triosmtp.histogram import LATENCY_BOUNDS, Histogram


def test_a_bound_is_inclusive_and_larger_values_are_in_the_last_bucket() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.5, 100.0):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 2]
    assert histogram.total == 107.5


def test_the_bounds_of_latencies_ascend() -> None:
    assert list(LATENCY_BOUNDS) == sorted(set(LATENCY_BOUNDS))
    assert len(Histogram().counts) == len(LATENCY_BOUNDS) + 1


@given(st.lists(st.floats(0, 100)))
def test_a_histogram_counts_what_is_at_most_each_bound(values: list[float]) -> None:
    histogram = Histogram((1.0, 5.0, 50.0))
    for value in values:
        histogram.observe(value)
    for number, bound in enumerate(histogram.bounds):
        assert sum(histogram.counts[: number + 1]) == sum(value <= bound for value in values)
    assert sum(histogram.counts) == len(values)
    assert histogram.total == pytest.approx(sum(values))
    copied = histogram.copy()
    histogram.observe(1.0)
    assert sum(copied.counts) == len(values)
