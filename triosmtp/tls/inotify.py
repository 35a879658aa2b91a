"""Wait until something changes in a folder: inotify(7), a descriptor that Trio can wait for.

watchfiles reports which entries have changed, but it has no descriptor to wait for: its own way to wait is a sleep in a
loop.  An :class:`Inotify` on the same folders only says that it is time to ask watchfiles.  Python has no call for
inotify, so that libc's functions are called.
"""

import ctypes
import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from struct import Struct
from typing import Final

import trio

__all__ = ["Inotify"]

# Bits of <sys/inotify.h>; the same on every architecture.
_IN_MODIFY: Final = 0x2
_IN_ATTRIB: Final = 0x4
_IN_CLOSE_WRITE: Final = 0x8
_IN_MOVE: Final = 0xC0
_IN_CREATE: Final = 0x100
_IN_DELETE: Final = 0x200
_IN_DELETE_SELF: Final = 0x400
_IN_MOVE_SELF: Final = 0x800
_IN_UNMOUNT: Final = 0x2000
_IN_Q_OVERFLOW: Final = 0x4000
_IN_IGNORED: Final = 0x8000
_IN_ONLYDIR: Final = 0x0100_0000

_CHANGES: Final = (
    _IN_MODIFY | _IN_ATTRIB | _IN_CLOSE_WRITE | _IN_MOVE | _IN_CREATE | _IN_DELETE
    | _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_ONLYDIR
)  # fmt: skip
"""The events that watchfiles reports.  To open or read a file is none: reading must not look like a change."""
_INCOMPLETE: Final = _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_UNMOUNT | _IN_Q_OVERFLOW | _IN_IGNORED
"""Events were lost, or a folder is no longer watched at its path."""

_EVENT: Final = Struct("@iIII")  # wd, mask, cookie, length of the name that follows
_READ_BYTES: Final = 65536
_MAX_READS: Final = 128
"""More than the kernel's queue holds (16,384 events by default): a busy folder cannot hold up the event loop."""

_UNWATCHABLE: Final = frozenset({errno.EACCES, errno.ENOENT, errno.ENOTDIR})
"""Errors of one folder: watchfiles does not watch it either, or it has gone since, which the caller finds out."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


class Inotify:
    """An inotify instance that watches ``folders``, not the folders in them.  Must be closed.

    Folders that do not exist, or may not be read, are left out.

    Raises:
        OSError: the system has no inotify, or one of its limits is reached.  Nothing is left open.
    """

    def __init__(self, folders: Iterable[str]) -> None:
        self._fd = _call("inotify_init1", os.O_CLOEXEC | os.O_NONBLOCK)  # IN_CLOEXEC | IN_NONBLOCK
        try:
            for folder in folders:
                self._add_watch(folder)
        except BaseException:
            self.close()
            raise

    def _add_watch(self, folder: str) -> None:
        try:
            _call("inotify_add_watch", self._fd, os.fsencode(folder), ctypes.c_uint32(_CHANGES))
        except OSError as error:
            if error.errno not in _UNWATCHABLE:
                raise

    async def wait(self) -> bool:
        """Wait until something has changed in a folder.  Return whether what has changed can still be known.

        It cannot if the kernel's queue has overflowed, or if a folder was removed, renamed or unmounted.
        """
        await trio.lowlevel.wait_readable(self._fd)
        return not self._drain() & _INCOMPLETE

    def _drain(self) -> int:
        """Read all events; return the bits of all of them."""
        bits = 0
        with suppress(BlockingIOError):
            for _ in range(_MAX_READS):
                events = os.read(self._fd, _READ_BYTES)
                at = 0
                while at < len(events):
                    _, mask, _, length = _EVENT.unpack_from(events, at)
                    bits |= mask
                    at += _EVENT.size + length
        return bits

    def close(self) -> None:
        """Close the descriptor.  Nobody may wait for it."""
        os.close(self._fd)


def _call(name: str, *arguments: object) -> int:
    """Call a function of libc that returns a descriptor, or -1 and an errno."""
    try:
        function = getattr(_libc, name)
    except AttributeError:  # not Linux
        raise OSError(errno.ENOSYS, f"{name}: {os.strerror(errno.ENOSYS)}") from None
    result: int = function(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result
