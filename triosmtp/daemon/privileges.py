"""Root's rights, and how they are given up: user, groups, capabilities, for good.

Everything here acts on the thread that calls it, and some of what the kernel keeps is kept for each thread (capset(2)
by design, and glibc changes the user ids of all).  So this runs before any other thread is there, and refuses
otherwise.  It blocks, needs no event loop, and belongs between binding and accepting.
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

__all__ = ["Identity", "drop", "find_identity"]

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
class Identity:
    """Who serves, once root has done what only root can."""

    name: str
    """Of the user, or its number where it has no name."""
    uid: int
    gid: int
    groups: tuple[int, ...]
    """All its groups, :attr:`gid` among them."""
    home: str
    capabilities: frozenset[str] = frozenset()
    """What is kept of root's rights: names of capabilities(7)."""


def find_identity(config: Config) -> Identity | None:
    """Give who is to serve: what Security says where root has started us, else None.

    :raises ConfigError: where root has started us and Security names nobody, or somebody that there is not.
    """
    security = config.security
    if security is None or os.geteuid() != 0:
        return None

    def wrong(text: str) -> ConfigError:
        return ConfigError([security.problem(f"Security: {text}")])

    if security.user is None:
        raise wrong("expected a User: without one root would go on to serve")
    account = _account(security.user)
    if account is None and not _is_number(security.user):
        raise wrong(f'there is no user "{security.user}"')
    uid = int(security.user) if account is None else account.pw_uid
    name = security.user if account is None else account.pw_name
    if uid == 0:
        raise wrong("User is root, and nothing would be given up: leave Security out where that is meant")
    if security.group is not None:
        found = _group(security.group)
        if found is None:
            raise wrong(f'there is no group "{security.group}"')
        gid = found
    elif account is not None:
        gid = account.pw_gid
    else:
        raise wrong(f"expected a Group: user {uid} has no entry that would name one")
    groups = {gid} if account is None else {gid, *os.getgrouplist(name, gid)}
    if 0 in groups:
        raise wrong("the group root is no group to serve as")
    home = "/" if account is None else account.pw_dir
    return Identity(name, uid, gid, tuple(sorted(groups)), home, security.capabilities)


def drop(identity: Identity) -> None:
    """Become ``identity``, for good: user, groups, capabilities of every set, and nothing gained by any exec.

    What is kept of capabilities is kept over exec, too (in the ambient set), for processes that this one starts.
    ``$HOME``, ``$USER`` and ``$LOGNAME`` follow, and root's ``$XDG_…`` go.

    :raises OSError: where any of it fails or did not come true; then the process must end, and serve nobody.
    """
    threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208
    if threads != 1:
        raise OSError(None, f"root's rights cannot be given up: {threads} threads run already")
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


def _verify(identity: Identity, kept: set[int]) -> None:
    """Believe the kernel alone."""
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
        raise OSError(None, f"root's rights were not given up: {', '.join(wrong)}")
    try:
        os.setresuid(0, 0, 0)
    except PermissionError:
        return
    raise OSError(None, "root's rights were not given up: they can be had again")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _account(text: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(int(text)) if _is_number(text) else pwd.getpwnam(text)
    except (KeyError, ValueError):  # ValueError: no name of an account can hold such characters
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
    """Give the numbers of the kernel's capabilities: newer ones than we have names for are dropped, too."""
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
    raise OSError(number, f"root's rights cannot be given up: {call}: {os.strerror(number)}")
