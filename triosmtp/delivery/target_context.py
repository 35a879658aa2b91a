"""What a target gets from the server: its name, the observers of events, and a record of the target's health."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import define, field

from triosmtp.delivery.target_health import TargetHealth
from triosmtp.limits.target_slots import TargetSlots

if TYPE_CHECKING:  # `triosmtp check` reports no events
    from triosmtp.event import Observer, ServerEvent

__all__ = ["EventSink", "TargetContext"]


@define(slots=True, eq=False)
class EventSink:
    """The destination of events of targets.  A server sets ``observer``; before that they are lost."""

    observer: "Observer | None" = None
    on_change: Callable[[], None] | None = None
    """Called when the health of a target has changed."""

    def emit(self, event: "ServerEvent") -> None:
        """Call the observer, if there is one."""
        if self.observer is not None:
            self.observer(event)

    def note_change(self) -> None:
        """Call ``on_change``, if it is set."""
        if self.on_change is not None:
            self.on_change()


@define(slots=True, eq=False)
class TargetContext:
    """The part of the server that one target uses."""

    hostname: str
    """The name of this host, for EHLO."""
    health: TargetHealth
    """The target reports each success and each failure of its own there."""
    _sink: EventSink = field(factory=EventSink)
    node: str = ""
    """The Node_Name of this server; ``""`` if it has none."""
    slots: Callable[[int], TargetSlots] = TargetSlots
    """Returns the slots for the connections to the target, for a limit of their number."""

    def emit(self, event: "ServerEvent") -> None:
        """Call every observer of an event."""
        self._sink.emit(event)
