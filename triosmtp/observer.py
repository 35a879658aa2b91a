"""The observers of a server: each is called with every event, or with the types of events that it wants."""

import logging
from collections.abc import Callable, Collection, Iterable
from typing import Final, get_args

from triosmtp.event import Observer, ServerEvent

__all__ = ["EVENTS", "Observers", "Subscription"]

_log = logging.getLogger("triosmtp.server")

EVENTS: Final[frozenset[type]] = frozenset(get_args(ServerEvent))
"""The types of all events."""


class Subscription:
    """An observer of some types of events.  The types may change at any time."""

    __slots__ = ("kinds", "observer", "on_change")

    def __init__(self, observer: Observer, kinds: Collection[type] = ()) -> None:
        self.observer = observer
        self.kinds = frozenset(kinds)
        self.on_change: Callable[[], None] = _nothing
        """Called when ``kinds`` has changed; set by :class:`Observers`."""

    def change(self, kinds: Collection[type]) -> None:
        """Observe events of the types ``kinds`` from now on."""
        self.kinds = frozenset(kinds)
        self.on_change()

    def __call__(self, event: ServerEvent) -> None:
        """Call the observer, if it wants ``event``."""
        if type(event) in self.kinds:
            self.observer(event)


class Observers:
    """The observers of one server by type of event: an event without an observer costs one look-up."""

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self._all: list[Observer] = []
        self._by_kind: dict[type, tuple[Observer, ...]] = {}
        self.wanted: frozenset[type] = frozenset()
        """The types of events that an observer wants: others need not be made."""
        for observer in observers:
            self.add(observer)

    def add(self, observer: Observer) -> None:
        """Call ``observer`` with each event from now on; a :class:`Subscription` with those of its types."""
        self._all.append(observer)
        if isinstance(observer, Subscription):
            observer.on_change = self._sort
        self._sort()

    def _sort(self) -> None:
        self._by_kind = {
            kind: tuple(
                each.observer if isinstance(each, Subscription) else each
                for each in self._all
                if not isinstance(each, Subscription) or kind in each.kinds
            )
            for kind in EVENTS
        }
        self.wanted = frozenset(kind for kind, observers in self._by_kind.items() if observers)

    def emit(self, event: ServerEvent) -> None:
        """Call the observers of ``event`` in their order.  An exception of one is logged, and the next is called."""
        for observer in self._by_kind[event.__class__]:
            try:
                observer(event)
            except Exception:  # noqa: BLE001 - an observer's error must not end the session
                _log.exception("an observer failed at %r", type(event).__name__)


def _nothing() -> None:
    """Return at once."""
