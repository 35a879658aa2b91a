"""Counts over time are exact inside the window, and bounded."""

from triosmtp.status.time_series import KINDS, TimeSeries


def test_counts_are_of_their_interval() -> None:
    series = TimeSeries(10, 6)
    for moment in (1000, 1001, 1009.9, 1010, 1059):
        series.at(moment).counts["accepted"] += 1
    chart = series.chart(1059)
    assert chart["begin"] == 1000
    assert chart["accepted"] == [3, 1, 0, 0, 0, 1]
    assert all(chart[kind] == [0] * 6 for kind in KINDS if kind != "accepted")
    assert series.total(1059, "accepted", 6) == 5
    assert series.total(1059, "accepted", 1) == 1


def test_old_counts_are_dropped() -> None:
    series = TimeSeries(1, 3)
    for moment in range(100):
        series.at(moment).counts["refused"] += 1
    assert len(series.last(99)) == 3
    assert series.last(1000) == []
    assert series.chart(101)["refused"] == [1, 0, 0]


def test_handshakes_are_a_chart_for_each_version() -> None:
    series = TimeSeries(1, 2)
    series.at(5).handshakes["TLSv1.3", "x25519"] += 2
    series.at(5).handshakes["TLSv1.3", "secp256r1"] += 1
    series.at(6).handshakes["TLSv1.2", "x25519"] += 1
    assert series.chart(6)["versions"] == {"TLSv1.2": [0, 1], "TLSv1.3": [3, 0]}
