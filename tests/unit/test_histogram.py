"""Histograms: buckets with inclusive upper bounds, and the sum."""

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
