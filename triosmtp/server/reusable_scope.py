"""A cancel scope that serves one block after the other, because to make one costs as much as an SMTP command."""

import sys
from types import TracebackType
from typing import Any

import trio

__all__ = ["ReusableScope"]


class ReusableScope:
    """A cancel scope for one block after the other in the same task.

    After a block that was not cancelled, Trio's scope stays open for the next one.  So the task must leave all scopes
    and nurseries in the order of their making, as always, and call :meth:`close` at its end.

    A block that leaves a scope or a nursery open raises Trio's RuntimeError at its end, as in any other scope.  Else
    the deadline of that scope would end a later block.
    """

    __slots__ = ("_is_inside", "_scope", "_task", "cancel_called", "cancelled_caught", "is_misnested")

    def __init__(self) -> None:
        self._scope: trio.CancelScope | None = None
        self._task: Any = None  # with _cancel_status, which Trio has for itself
        self.is_misnested = False
        """Whether a block has left a scope or a nursery open.  Then the task must end."""
        self._is_inside = False
        self.cancel_called = False
        """Whether the latest block was cancelled."""
        self.cancelled_caught = False
        """Whether the latest block ended because it was cancelled."""

    def __enter__(self) -> None:
        self._is_inside = True
        self.cancel_called = self.cancelled_caught = False
        if self._scope is None:
            self._scope = trio.CancelScope()
            self._scope.__enter__()
            self._task = trio.lowlevel.current_task()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._is_inside = False
        scope: Any = self._scope
        if self._task._cancel_status is not scope._cancel_status:  # noqa: SLF001 - Trio has no public way
            self.is_misnested = True
        elif not self.cancel_called:
            return False
        self._scope = None
        caught: bool = scope.__exit__(kind, error, traceback)
        self.cancelled_caught = scope.cancelled_caught
        return caught

    def cancel(self) -> None:
        """Cancel the block, if the task is in one."""
        if self._is_inside and self._scope is not None:
            self.cancel_called = True
            self._scope.cancel()

    def close(self) -> None:
        """Leave Trio's scope, in the task that has entered it."""
        scope, self._scope = self._scope, None
        if scope is not None:
            scope.__exit__(*sys.exc_info())
