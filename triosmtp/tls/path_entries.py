"""The directory entries that a path goes through: a change of each may change the file that it means.

``/etc/tls/cert.pem`` may be a link into an archive, ``/etc/tls`` a link itself, and any of them may be exchanged for
another.  To watch a file means to watch all these entries, in the directories that hold them.
"""

import os
import stat
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Final

__all__ = ["entries_of"]

_MAX_LINKS: Final = 40  # as in Linux, for which more are a loop


def entries_of(paths: Iterable[Path]) -> frozenset[Path]:
    """Return every entry that is looked up on the way to ``paths``, in existing directories and with no link before it.

    The last entry of a path that leads nowhere is the one that is missing: what comes after cannot be known before it
    is there.  Blocking.
    """
    return frozenset(entry for path in paths for entry in _entries(Path.cwd() / path))


def _entries(path: Path) -> Iterable[Path]:
    folder = Path("/")
    parts = deque(path.parts[1:])
    links = 0
    while parts:
        part = parts.popleft()
        if part == "..":
            folder = folder.parent
            continue
        entry = folder / part
        yield entry
        try:
            mode = entry.lstat().st_mode
            target = Path(os.readlink(entry)) if stat.S_ISLNK(mode) else None  # noqa: PTH115 - keeps its `..`, too
        except OSError:
            return
        if target is not None:
            links += 1
            if links > _MAX_LINKS:
                return
            if target.is_absolute():
                folder = Path("/")
            parts.extendleft(reversed(target.parts[1:] if target.is_absolute() else target.parts))
        elif stat.S_ISDIR(mode):
            folder = entry
        else:
            return
