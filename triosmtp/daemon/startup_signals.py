"""Signals and stderr of a process whose event loop does not run yet."""

import os
import signal
import sys
from types import FrameType
from typing import Self

__all__ = ["StartupSignals", "ensure_stderr"]


class StartupSignals:
    """Handle signals until the event loop does: remember SIGHUP, end the process at SIGTERM and SIGINT.

    Process 1 of a container receives only signals that it handles.
    """

    def __init__(self) -> None:
        self.reload = False
        """Whether SIGHUP was received."""
        self._before: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._remember)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, _end)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, _number: int, _frame: FrameType | None) -> None:
        self.reload = True


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)  # no session has begun


def ensure_stderr() -> None:
    """Open /dev/null as stderr if the process was started without (``2>&-``), also for its children.

    Otherwise the next file or socket would get the descriptor of stderr.
    """
    if sys.stderr is None:
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.set_inheritable(descriptor, True)
        sys.stderr = os.fdopen(descriptor, "w")  # lives as long as the process
