"""Counters of scripts: ``msys.audit_series``, ``msys.gauge_cache`` and ``msys.counter``.

They last as long as the process: a reload keeps those that are defined again in the same way.  The keys may be texts of
peers, so each table forgets its oldest key when it is full.
"""

from collections import OrderedDict
from typing import Final

from attrs import define, field

from triosmtp.errors import TrioSMTPError

__all__ = ["MAX_KEYS", "MAX_WINDOWS", "CounterError", "GaugeCache", "NamedCounters", "Series"]

MAX_KEYS: Final = 100_000
"""Keys of one series."""
MAX_WINDOWS: Final = 1440
MAX_COUNTERS: Final = 10_000
_MAX_KEY: Final = 1024  # characters of a key


class CounterError(TrioSMTPError, ValueError):
    """A definition or a use of a counter that is not valid."""


@define(slots=True, eq=False)
class _Windows:
    counts: list[int]
    newest: int
    """The number of the window to which the first count belongs."""


class Series:
    """An audit series: for each key, the counts of the current window and of those before it."""

    def __init__(self, kind: str, seconds: float, windows: int, size: int | None = None) -> None:
        if kind not in {"cidr", "cidr_ipv6", "string"}:
            raise CounterError(f"{kind!r} is none of cidr, cidr_ipv6, string")
        if not seconds > 0 or not 0 < windows <= MAX_WINDOWS:
            raise CounterError(f"a window takes more than 0 seconds, and there are 1 to {MAX_WINDOWS} windows")
        self.kind = kind
        self.definition = (kind, float(seconds), int(windows))
        self._seconds, self._windows = float(seconds), int(windows)
        self._size = MAX_KEYS if size is None else size
        self._keys: OrderedDict[str, _Windows] = OrderedDict()

    def add(self, key: str, count: int, now: float) -> None:
        """Add to the current window."""
        key, number = key[:_MAX_KEY], int(now // self._seconds)
        found = self._keys.get(key)
        if found is None:
            found = self._keys[key] = _Windows([0] * self._windows, number)
            if len(self._keys) > self._size:
                self._keys.popitem(last=False)
        else:
            self._keys.move_to_end(key)
        self._advance(found, number)
        found.counts[0] += count

    def count(self, key: str, first: int, last: int, now: float) -> int:
        """Return the sum of the windows ``first`` to ``last``: 0 is the current one, 1 the one before it."""
        found = self._keys.get(key[:_MAX_KEY])
        if found is None:
            return 0
        self._advance(found, int(now // self._seconds))
        first, last = sorted((max(first, 0), max(last, 0)))
        return sum(found.counts[first : last + 1])

    @property
    def known(self) -> tuple[str, ...]:
        """The keys, the oldest first."""
        return tuple(self._keys)

    def remove(self, key: str) -> bool:
        """Forget a key; return whether it was there."""
        return self._keys.pop(key[:_MAX_KEY], None) is not None

    def _advance(self, windows: _Windows, number: int) -> None:
        passed = number - windows.newest
        if passed > 0:
            fresh = [0] * min(passed, self._windows)
            windows.counts = (fresh + windows.counts)[: self._windows]
            windows.newest = number


class GaugeCache:
    """Numbers that go up and down, by key.  A key that is not changed for ``ttl`` seconds is forgotten."""

    def __init__(self, size: int, ttl: float) -> None:
        if size <= 0:
            raise CounterError("a gauge cache has at least one element")
        self.definition = (size, float(ttl))
        self._size, self._ttl = min(size, MAX_KEYS), float(ttl)
        self._values: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def change(self, key: str, by: int, now: float) -> int:
        """Add ``by`` to a key, and return its value."""
        key = key[:_MAX_KEY]
        value = self.value(key, now) + by
        self._values[key] = (value, now)
        self._values.move_to_end(key)
        if len(self._values) > self._size:
            self._values.popitem(last=False)
        return value

    def value(self, key: str, now: float) -> int:
        """Return the value of a key; 0 if it is not there."""
        value, changed = self._values.get(key[:_MAX_KEY], (0, now))
        return value if self._ttl <= 0 or now - changed < self._ttl else 0

    def remove(self, key: str) -> bool:
        """Forget a key; return whether it was there."""
        return self._values.pop(key[:_MAX_KEY], None) is not None


@define(slots=True)
class NamedCounters:
    """The counters of ``msys.counter``: numbers with a path as their name, shared by the scripts of a process."""

    _values: dict[str, int] = field(factory=dict)

    def open(self, path: str) -> str:
        """Make a counter if it is not there, and return its name.

        :raises CounterError: if there are too many.
        """
        path = path[:_MAX_KEY]
        if path not in self._values and len(self._values) >= MAX_COUNTERS:
            raise CounterError(f"there are already {MAX_COUNTERS} counters")
        self._values.setdefault(path, 0)
        return path

    def add(self, path: str, by: int) -> int:
        """Add to a counter, and return its value.  An unlinked counter begins again at 0."""
        path = self.open(path)
        self._values[path] += by
        return self._values[path]

    def read(self, path: str) -> int:
        """Return the value of a counter."""
        return self._values.get(path[:_MAX_KEY], 0)

    def reset(self, path: str) -> None:
        """Set a counter to 0."""
        if path[:_MAX_KEY] in self._values:
            self._values[path[:_MAX_KEY]] = 0

    def unlink(self, path: str) -> bool:
        """Remove a counter; return whether it was there."""
        return self._values.pop(path[:_MAX_KEY], None) is not None
