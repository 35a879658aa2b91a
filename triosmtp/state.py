"""Where triosmtp keeps what must outlive a connection, how folders of ours are made, and how files are opened."""

import os
import stat
from contextlib import suppress
from errno import EINVAL
from pathlib import Path
from typing import BinaryIO

from triosmtp.errors import ConfigError, Problem

__all__ = ["is_tmpfs", "is_visible", "make_directory", "open_regular", "state_directory", "sync_directory"]


def state_directory() -> Path:
    """Give the state folder, whether it exists or not.

    ``$STATE_DIRECTORY`` as systemd sets it (the first of a colon list), else ``$XDG_STATE_HOME/triosmtp``, else
    ``~/.local/state/triosmtp``.  A relative path in ``$XDG_STATE_HOME`` is ignored, as its specification demands.

    :raises ConfigError: where none of them is set and the user has no home folder.
    """
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given).absolute()
    home = os.environ.get("XDG_STATE_HOME", "")
    try:
        base = Path(home) if home.startswith("/") else Path.home() / ".local" / "state"
    except RuntimeError:
        text = "there is no state folder: set STATE_DIRECTORY; or the options Deliver_To and Spool_Directory"
        raise ConfigError([Problem("error", f"{text} (this user has no home folder)")]) from None
    return base / "triosmtp"


def make_directory(path: Path) -> None:
    """Make ``path`` and its missing parents, each 0700, and sync each new entry to disk.  Blocks.

    What is there already is left as it is, its mode too.

    :raises OSError: where that is not possible; :class:`FileExistsError` where a file stands in the way.
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
    """Bring the entries of folder ``path`` to disk.  Blocks.

    :raises OSError: where it cannot be opened or synced.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_regular(path: Path, flags: int = 0) -> BinaryIO:
    """Open a regular file to read it.  Whatever else stands at ``path`` is refused, and not waited for.

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
    """Whether something is at ``path``; False too if a folder on the way is closed to this user."""
    return os.access(path, os.F_OK)


def is_tmpfs(path: Path) -> bool:
    """Whether ``path`` (or, while it is missing, its nearest existing parent) lies in memory: on a tmpfs or ramfs.

    False where the system does not tell: it is asked through ``/proc/self/mountinfo``.
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
