"""Limit the octets in spool files: in total, of one peer, and by the free space of the file system."""

import os
from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Final

import trio

from triosmtp.config import Settings
from triosmtp.filesystem import state_directory
from triosmtp.limits.limit_reached import LimitReached
from triosmtp.message.spool import KEEP_SIZE, spool_limiter

__all__ = ["SpoolSpace", "find_spool_limit", "spool_folder"]

_SHARE: Final = 4
"""One peer may use this fraction of Spool_Max_Size: 1/4."""


class SpoolSpace:
    """Counts the octets in the spool files of one service.  It knows no file."""

    def __init__(self) -> None:
        self.processes = 1
        """How many processes share Spool_Max_Size equally."""
        self.used = 0
        """Octets in spool files."""
        self._of_peer: Counter[Hashable] = Counter()

    def fits(self, peer: Hashable, size: int, limit: int, *, shared: bool) -> bool:
        """Return whether ``size`` more octets of ``peer`` are within ``limit``; 0 is no limit.

        ``shared`` is whether one peer may use only its share of it.
        """
        limit //= self.processes
        most = limit // _SHARE if shared else limit
        return not limit or (self.used + size <= limit and self._of_peer[peer] + size <= most)

    def reserve(self, peer: Hashable, size: int) -> None:
        """Count octets of ``peer``."""
        self.used += size
        self._of_peer[peer] += size

    def release(self, peer: Hashable, size: int) -> None:
        """Undo a :meth:`reserve`."""
        self.used -= size
        self._of_peer[peer] -= size
        if not self._of_peer[peer]:
            del self._of_peer[peer]


def spool_folder(settings: Settings) -> Path:
    """Return the folder of the spool files.  It may not exist yet."""
    return settings.spool_directory if settings.spool_directory is not None else state_directory() / "spool"


async def find_spool_limit(
    space: SpoolSpace, peer: Hashable, settings: Settings, size: int, *, shared: bool
) -> LimitReached | None:
    """Return the limit that refuses a message of ``size`` octets; None if it fits, or needs no file.

    The file system is asked in a thread.  If it reports an error, the message is not refused yet.
    """
    if size <= KEEP_SIZE:
        return None
    if not space.fits(peer, size, settings.spool_max_size, shared=shared):
        return LimitReached.SPOOL_MAX_SIZE
    free = await trio.to_thread.run_sync(_free, spool_folder(settings), limiter=spool_limiter())
    if free is None or size + settings.spool_min_free <= free:
        return None
    return LimitReached.SPOOL_MIN_FREE if size <= free else LimitReached.SPOOL_FILE_SYSTEM


def _free(folder: Path) -> int | None:
    for each in (folder, *folder.parents):
        try:
            found = os.statvfs(each)
        except FileNotFoundError:
            continue  # it is created for the first body
        except OSError:
            return None
        return found.f_bavail * found.f_frsize
    return None
