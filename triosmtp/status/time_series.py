"""Counts over time: for each second of the last minutes, and for each five minutes of the last day."""

from collections import Counter, deque
from typing import Any, Final

__all__ = ["KINDS", "Bucket", "TimeSeries"]

KINDS: Final = ("connected", "established", "failed", "accepted", "refused", "undelivered")
"""The counts: sessions that began, TLS handshakes by result, accepted messages, refusals, and refusals by spool or
delivery."""


class Bucket:
    """The counts of one interval."""

    __slots__ = ("counts", "handshakes", "listeners", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.counts: Counter[str] = Counter()
        """By kind."""
        self.listeners: Counter[tuple[str, str]] = Counter()
        """By Listen and kind."""
        self.handshakes: Counter[tuple[str, str]] = Counter()
        """Completed handshakes by protocol version and group."""


class TimeSeries:
    """The last ``length`` intervals of ``seconds`` each; older ones are dropped."""

    def __init__(self, seconds: int, length: int) -> None:
        self._seconds = seconds
        self._length = length
        self._buckets: deque[Bucket] = deque(maxlen=length)

    def at(self, now: float) -> Bucket:
        """Return the bucket of this moment, in seconds since the epoch, to count in."""
        number = int(now // self._seconds)
        if not self._buckets or self._buckets[-1].number != number:
            self._buckets.append(Bucket(number))
        return self._buckets[-1]

    def last(self, now: float, length: int | None = None) -> list[Bucket]:
        """Return those of the last ``length`` buckets (default: all) that have counts, with the present one."""
        present = int(now // self._seconds)
        first = present - (self._length if length is None else length)
        return [each for each in self._buckets if first < each.number <= present]

    def total(self, now: float, kind: str, length: int) -> int:
        """Return how often ``kind`` happened in the last ``length`` buckets."""
        return sum(each.counts[kind] for each in self.last(now, length))

    def chart(self, now: float) -> dict[str, Any]:
        """Return, as a value for JSON, each kind and each TLS version as a list of numbers, the oldest first."""
        present = int(now // self._seconds)
        first = present - self._length + 1
        counts = {kind: [0] * self._length for kind in KINDS}
        versions: dict[str, list[int]] = {}
        for bucket in self.last(now):
            place = bucket.number - first
            for kind, number in bucket.counts.items():
                counts[kind][place] += number
            for (version, _), number in bucket.handshakes.items():
                versions.setdefault(version, [0] * self._length)[place] += number
        begin = first * self._seconds
        return {"begin": begin, "seconds": self._seconds, "versions": dict(sorted(versions.items())), **counts}
