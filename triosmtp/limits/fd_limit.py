"""How many connections a process has file descriptors for."""

import os
import resource
import sys
from typing import Final

__all__ = ["max_connections"]

_MIN_RESERVE: Final = 8
"""Descriptors that are reserved for spool files and deliveries.  An eighth of all descriptors is, if that is more."""


def max_connections() -> int:
    """Return how many connections this process can have open beside the files that are open now."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    spare = limit - len(os.listdir("/proc/self/fd")) - max(_MIN_RESERVE, limit // 8)  # noqa: PTH208
    return max(spare, 1)
