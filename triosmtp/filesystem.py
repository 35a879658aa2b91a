"""The state folder, and how folders are made and files are opened."""

import os
import stat
from contextlib import suppress
from errno import EINVAL
from pathlib import Path
from typing import BinaryIO

from triosmtp.errors import ConfigError, Problem, Severity

__all__ = ["is_tmpfs", "is_visible", "make_directory", "open_regular", "state_directory", "sync_directory"]


def state_directory() -> Path:
    """Return the state folder, which need not exist.

    It is ``$STATE_DIRECTORY`` as systemd sets it (the first of a colon list), else ``$XDG_STATE_HOME/triosmtp``, else
    ``~/.local/state/triosmtp``.  A relative path in ``$XDG_STATE_HOME`` is ignored, as its specification requires.

    :raises ConfigError: if none of them is set and the user has no home folder.
    """
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given).absolute()
    home = os.environ.get("XDG_STATE_HOME", "")
    try:
        base = Path(home) if home.startswith("/") else Path.home() / ".local" / "state"
    except RuntimeError:
        text = "there is no state folder: set STATE_DIRECTORY; or the options Deliver_To and Spool_Directory"
        raise ConfigError([Problem(Severity.ERROR, f"{text} (this user has no home folder)")]) from None
    return base / "triosmtp"


def make_directory(path: Path) -> None:
    """Make ``path`` and its missing parents, each 0700, and sync each new entry to disk.  It blocks.

    Folders that exist are not changed, nor is their mode.

    :raises OSError: if that is not possible; :class:`FileExistsError` if a file has the name of a folder.
    """
    if path.is_dir():
        return
    make_directory(path.parent)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not path.is_dir():  # else another thread was faster
            raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Write to disk the entries of folder ``path``.  It blocks.

    :raises OSError: if it cannot be opened or synced.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_regular(path: Path, flags: int = 0) -> BinaryIO:
    """Open a regular file to read it.  Refuse anything else at ``path``, without waiting for it.

    ``flags`` are further ones of :func:`os.open`.

    :raises OSError: if it cannot be opened, or is not a regular file.
    """
    # By open() itself, which closes the descriptor of a directory; os.fdopen() leaves it open.
    file = open(path, "rb", opener=lambda name, mode: os.open(name, mode | os.O_NONBLOCK | flags))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(EINVAL, "not a regular file", str(path))
    return file


def is_visible(path: Path) -> bool:
    """Return whether ``path`` exists; False also if this user may not enter a folder on the way."""
    return os.access(path, os.F_OK)


def is_tmpfs(path: Path) -> bool:
    """Return whether ``path`` (or, if it is missing, its nearest existing parent) is in memory: on a tmpfs or ramfs.

    The system is asked through ``/proc/self/mountinfo``; without that file the result is False.
    """
    path = path.absolute()
    while not is_visible(path) and path != path.parent:
        path = path.parent
    with suppress(OSError):
        device = path.stat().st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        for line in Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines():
            # proc(5): id, parent, major:minor, root, mount point, options, optional fields, "-", type, source, …
            before, _, after = line.partition(" - ")
            if before.split()[2] == wanted:
                return after.split()[0] in {"tmpfs", "ramfs"}
    return False
