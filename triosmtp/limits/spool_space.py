"""How much room there is for message bodies: in the spool folder, for all of them and for those of one peer."""

import os
from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Final

import trio

from triosmtp.config import Settings
from triosmtp.filesystem import state_directory
from triosmtp.message.spool import KEEP_SIZE, LIMITER

__all__ = ["SpoolSpace", "find_spool_limit", "spool_folder"]

_SHARE: Final = 4
"""What one peer may have of the spool: one part in so many."""


class SpoolSpace:
    """Counts the octets that the spool files of one service hold; it knows no file."""

    def __init__(self) -> None:
        self.processes = 1
        """How many processes share what Spool_Max_Size allows: each has its part."""
        self.used = 0
        """Octets in spool files."""
        self._of_peer: Counter[Hashable] = Counter()

    def fits(self, peer: Hashable, size: int, limit: int, *, shared: bool) -> bool:
        """Whether ``size`` more octets of ``peer`` are within ``limit`` (0: any), or its share if it is ``shared``."""
        limit //= self.processes
        most = limit // _SHARE if shared else limit
        return not limit or (self.used + size <= limit and self._of_peer[peer] + size <= most)

    def take(self, peer: Hashable, size: int) -> None:
        """Count octets in."""
        self.used += size
        self._of_peer[peer] += size

    def release(self, peer: Hashable, size: int) -> None:
        """Count octets out that :meth:`take` counted in."""
        self.used -= size
        self._of_peer[peer] -= size
        if not self._of_peer[peer]:
            del self._of_peer[peer]


def spool_folder(settings: Settings) -> Path:
    """Return the folder of the spool files, which need not exist yet."""
    return settings.spool_directory if settings.spool_directory is not None else state_directory() / "spool"


async def find_spool_limit(space: SpoolSpace, peer: Hashable, settings: Settings, size: int, *, shared: bool) -> str:
    """Return why a message of ``size`` octets has no room, if it needs a file; ``""`` if it has.

    The file system is asked in a thread.  What it cannot tell is found out when the body is written.
    """
    if size <= KEEP_SIZE:
        return ""
    if not space.fits(peer, size, settings.spool_max_size, shared=shared):
        return "Spool_Max_Size"
    free = await trio.to_thread.run_sync(_free, spool_folder(settings), limiter=LIMITER)
    if free is None or size + settings.spool_min_free <= free:
        return ""
    return "Spool_Min_Free" if size <= free else "the file system of the spool has no room for it"


def _free(folder: Path) -> int | None:
    for each in (folder, *folder.parents):
        try:
            found = os.statvfs(each)
        except FileNotFoundError:
            continue  # it is made for the first body
        except OSError:
            return None
        return found.f_bavail * found.f_frsize
    return None
