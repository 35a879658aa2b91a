"""Metrics in the text formats of Prometheus."""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from triosmtp.histogram import Histogram
from triosmtp.status.metrics import Samples

__all__ = ["write_exposition"]


class _Scrape(Collector):
    def __init__(self, samples: Iterable[Samples]) -> None:
        self._samples = tuple(samples)

    def describe(self) -> Iterator[Metric]:
        """Return nothing: each scrape collects all."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        for each in self._samples:
            yield _metric(each)


def write_exposition(samples: Iterable[Samples], accept: str) -> tuple[bytes, str]:
    """Return the exposition in the format of the ``Accept`` field, and its content type.

    It includes the metrics of the process that the kernel keeps (``process_…``).
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(samples))
    ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def _metric(samples: Samples) -> Metric:
    family = samples.family
    if family.kind == "counter":
        counter = CounterMetricFamily(family.name.removesuffix("_total"), family.doc, labels=family.labels)
        for labels, value in samples.values.items():
            assert not isinstance(value, Histogram)
            counter.add_metric(labels, value)
        return counter
    if family.kind == "gauge":
        gauge = GaugeMetricFamily(family.name, family.doc, labels=family.labels)
        for labels, value in samples.values.items():
            assert not isinstance(value, Histogram)
            gauge.add_metric(labels, value)
        return gauge
    histogram = HistogramMetricFamily(family.name, family.doc, labels=family.labels)
    for labels, value in samples.values.items():
        assert isinstance(value, Histogram)
        histogram.add_metric(labels, _buckets(value), value.total)
    return histogram


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Return the cumulative count of each bound."""
    found, below = [], 0
    for bound, count in zip((*map(str, map(float, histogram.bounds)), "+Inf"), histogram.counts, strict=True):
        below += count
        found.append((bound, float(below)))
    return found
