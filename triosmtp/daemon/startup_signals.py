"""What a process of ours can rely on before its event loop heeds signals."""

import os
import signal
import sys
from types import FrameType
from typing import Self

__all__ = ["EarlySignals", "have_stderr"]


class EarlySignals:
    """What signals do until the event loop heeds them: SIGHUP is remembered, the others end the process at once.

    As process 1 of a container, we would not even hear of a signal that nothing handles.
    """

    def __init__(self) -> None:
        self.reload = False
        """Whether somebody asked for a reload."""
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
    os._exit(0)  # nothing is served yet that would have to be finished


def have_stderr() -> None:
    """Have a stderr, where the process was started without (``2>&-``): it leads nowhere, for our children, too.

    Else the next file or socket would be taken for it.
    """
    if sys.stderr is None:
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.set_inheritable(descriptor, True)
        sys.stderr = os.fdopen(descriptor, "w")  # lives as long as the process
