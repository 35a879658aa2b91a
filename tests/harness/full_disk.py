"""Files that can grow no further: the kernel takes a part of a write, and then nothing, as on a full disk."""

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

FULL = os.strerror(errno.EFBIG)
"""Why it takes no more."""


@contextmanager
def full_at(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond ``size`` until the block is left."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
