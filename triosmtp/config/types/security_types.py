"""The types of the scope Security: users and groups, and capabilities as libcap's cap_from_text(3) reads them."""

import re
from typing import Final

from triosmtp.config.parser import Value
from triosmtp.config.suggestion import nearest, suggest
from triosmtp.config.types.option_type import BadValueError, OptionType, Warn, bad_value, quote, text_of

__all__ = ["ACCOUNT", "CAPABILITIES", "CAPABILITY_NAMES", "KEPT"]

_NAMES: Final = """
chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service
net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin
sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override
mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore
"""

CAPABILITY_NAMES: Final = tuple(f"cap_{name}" for name in _NAMES.split())
"""Linux's capabilities (capabilities(7)); the place of each is its number."""

KEPT: Final = frozenset({"cap_net_bind_service"})
"""Those that a listener can use.  No other one is ever kept."""

_CLAUSE = re.compile(r"([a-z_,]+)([=+])([eip]*)").fullmatch
_FORM = '"cap_net_bind_service+ep", or none'


def _read(value: Value, warn: Warn) -> frozenset[str]:
    text = text_of(value, _FORM)
    if text.lower() == "none":
        return frozenset()
    kept: set[str] = set()
    for clause in text.lower().split():
        match = _CLAUSE(clause)
        if match is None:
            raise BadValueError(value.place, f"expected {_FORM}, found {quote(text)}")
        names = match[1].split(",")
        for name in names:
            if name not in CAPABILITY_NAMES:
                close = suggest(nearest(name, CAPABILITY_NAMES))
                raise BadValueError(value.place, f"expected {_FORM}: there is no capability {quote(name)}{close}")
            if {"e", "p"} <= set(match[3]):
                kept.add(name)
    for name in sorted(kept - KEPT):
        warn(value.place, f"Capabilities: triosmtp has no use for {name}: it is not kept")
    return frozenset(kept & KEPT)


def _write(value: object) -> str:
    assert isinstance(value, frozenset)
    return quote(" ".join(f"{name}+ep" for name in sorted(value))) if value else "none"


CAPABILITIES: OptionType[frozenset[str]] = OptionType("capabilities", _read, _write)


_HIGHEST: Final = (1 << 32) - 2
"""The highest number of a user or group: the kernel takes the next one, -1, for "leave it as it is" (setresuid(2))."""


def _read_account(value: Value, _warn: Warn) -> str:
    expected = f"a name, or a number from 0 to {_HIGHEST}"
    text = text_of(value, expected)
    number = text.isascii() and text.isdigit()
    if not text or text[0] in "+-" or (number and (len(text.lstrip("0")) > 10 or int(text) > _HIGHEST)):
        raise bad_value(value, expected)
    return text


ACCOUNT: OptionType[str] = OptionType("user or group", _read_account, lambda value: quote(str(value)))
