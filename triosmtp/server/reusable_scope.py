"""A cancel scope that serves one block after the other, because to make one costs as much as an SMTP command."""

import sys
from types import TracebackType

import trio

__all__ = ["ReusableScope"]


class ReusableScope:
    """A cancel scope for one block after the other in the same task.

    After a block that was not cancelled, Trio's scope stays open for the next one.  So the task must leave all scopes
    and nurseries in the order of their making, as always, and call :meth:`close` at its end.
    """

    __slots__ = ("_is_inside", "_scope", "cancel_called", "cancelled_caught")

    def __init__(self) -> None:
        self._scope: trio.CancelScope | None = None
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._is_inside = False
        if not self.cancel_called:
            return False
        scope, self._scope = self._scope, None
        assert scope is not None, "the block has begun"
        caught = scope.__exit__(kind, error, traceback)
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
