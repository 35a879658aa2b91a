"""Dropping root privileges: user, groups and capabilities, permanently.

capset(2) changes only the calling thread, while glibc changes the user of all threads.  So this runs before any other
thread starts, and refuses otherwise.  It blocks, and is called after binding and before accepting.
"""

import ctypes
import grp
import os
import pwd
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from attrs import frozen

from triosmtp.config import CAPABILITY_NAMES, Config
from triosmtp.errors import ConfigError

__all__ = ["ProcessIdentity", "drop_privileges", "find_identity"]

# linux/prctl.h, linux/capability.h
_PR_SET_KEEPCAPS: Final = 8
_PR_CAPBSET_READ: Final = 23
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_RAISE: Final = 2
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_VERSION_3: Final = 0x20080522


@frozen(slots=True)
class ProcessIdentity:
    """The user that serves after root has bound the sockets and read the keys."""

    name: str
    """The name of the user, or its number if it has no name."""
    uid: int
    gid: int
    groups: tuple[int, ...]
    """All its groups, including :attr:`gid`."""
    home: str
    capabilities: frozenset[str] = frozenset()
    """Names of the capabilities(7) that are kept."""


def find_identity(config: Config) -> ProcessIdentity | None:
    """Return the user of Security if this process runs as root, else None.

    :raises ConfigError: if it runs as root and Security names no user, or one that does not exist.
    """
    security = config.security
    if security is None or os.geteuid() != 0:
        return None

    def wrong(text: str) -> ConfigError:
        return ConfigError([security.problem(f"Security: {text}")])

    if security.user is None:
        raise wrong("expected a User: without one the server would run as root")
    account = _account(security.user)
    if account is None and not _is_number(security.user):
        raise wrong(f'there is no user "{security.user}"')
    uid = int(security.user) if account is None else account.pw_uid
    name = security.user if account is None else account.pw_name
    if uid == 0:
        raise wrong("User is root: to run as root, leave Security out")
    if security.group is not None:
        found = _group(security.group)
        if found is None:
            raise wrong(f'there is no group "{security.group}"')
        gid = found
    elif account is not None:
        gid = account.pw_gid
    else:
        raise wrong(f"expected a Group: user {uid} has no entry with a group")
    groups = {gid} if account is None else {gid, *os.getgrouplist(name, gid)}
    if 0 in groups:
        raise wrong("the server must not run with the group root")
    home = "/" if account is None else account.pw_dir
    return ProcessIdentity(name, uid, gid, tuple(sorted(groups)), home, security.capabilities)


def drop_privileges(identity: ProcessIdentity) -> None:
    """Become ``identity`` permanently: user, groups, all sets of capabilities, and no new privileges by exec.

    Processes that this one starts keep its capabilities (in the ambient set).  Set ``$HOME``, ``$USER`` and
    ``$LOGNAME``, and remove root's ``$XDG_…``.

    :raises OSError: if a step fails, or had no effect.  Then the process must end.
    """
    threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208
    if threads != 1:
        raise OSError(None, f"root privileges cannot be dropped: {threads} threads run already")
    kept = {CAPABILITY_NAMES.index(name) for name in identity.capabilities}
    _prctl(_PR_SET_KEEPCAPS, 1)
    for number in _known_capabilities():
        if number not in kept:
            _prctl(_PR_CAPBSET_DROP, number)
    os.setgroups(identity.groups)
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    _capset(kept)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for number in kept:
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number)
    _prctl(_PR_SET_KEEPCAPS, 0)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _verify(identity, kept)
    os.environ.update(HOME=identity.home, USER=identity.name, LOGNAME=identity.name)
    for name in [name for name in os.environ if name.startswith("XDG_")]:
        del os.environ[name]


def _verify(identity: ProcessIdentity, kept: set[int]) -> None:
    """Check the result by what the kernel reports."""
    status = dict(
        line.split(":\t", 1) for line in Path("/proc/thread-self/status").read_text().splitlines() if ":\t" in line
    )
    bits = sum(1 << number for number in kept)
    wrong = [
        name
        for name, is_so in (
            ("user", os.getresuid() == (identity.uid,) * 3),
            ("group", os.getresgid() == (identity.gid,) * 3),
            ("groups", sorted(os.getgroups()) == sorted(identity.groups)),
            ("user and groups", status["Uid"].split() == [str(identity.uid)] * 4),
            *((name, int(status[name], 16) == bits) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")),
            ("NoNewPrivs", status["NoNewPrivs"] == "1"),
        )
        if not is_so
    ]
    if wrong:
        raise OSError(None, f"root privileges were not dropped: {', '.join(wrong)}")
    try:
        os.setresuid(0, 0, 0)
    except PermissionError:
        return
    raise OSError(None, "root privileges were not dropped: setresuid(0) succeeds")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _account(text: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(int(text)) if _is_number(text) else pwd.getpwnam(text)
    except (KeyError, ValueError):  # ValueError: characters that no account name has
        return None


def _group(text: str) -> int | None:
    if _is_number(text):
        return int(text)
    try:
        return grp.getgrnam(text).gr_gid
    except (KeyError, ValueError):
        return None


# The kernel

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]


def _prctl(operation: int, *arguments: int) -> int:
    result: int = _libc.prctl(operation, *arguments, *[0] * (4 - len(arguments)))
    if result < 0:
        _fail(f"prctl({operation}, {', '.join(map(str, arguments))})")
    return result


def _known_capabilities() -> Iterable[int]:
    """Yield the numbers of the kernel's capabilities, also of those that have no name here."""
    for number in range(64):
        try:
            _prctl(_PR_CAPBSET_READ, number)
        except OSError:
            return
        yield number


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _capset(numbers: Iterable[int]) -> None:
    bits = sum(1 << number for number in numbers)
    halves = [bits & 0xFFFFFFFF, bits >> 32]
    data = (_Data * 2)(*[_Data(half, half, half) for half in halves])
    if _libc.capset(ctypes.byref(_Header(_VERSION_3, 0)), data) < 0:
        _fail("capset")


def _fail(call: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, f"root privileges cannot be dropped: {call}: {os.strerror(number)}")
