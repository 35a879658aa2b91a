"""How many connections a process has descriptors for."""

import os
import resource
import sys
from typing import Final

__all__ = ["max_connections"]

_RESERVE: Final = 8
"""Descriptors that are left for what else is opened, spools and deliveries; or an eighth of all, where that is more."""


def max_connections() -> int:
    """Give how many connections may be open at once in this process, beside what is open now."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    spare = limit - len(os.listdir("/proc/self/fd")) - max(_RESERVE, limit // 8)  # noqa: PTH208
    return max(spare, 1)
