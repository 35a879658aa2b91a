"""The option Capabilities: what is kept of root's rights, in the form that libcap's cap_from_text(3) reads."""

import re
from typing import Final

from triosmtp.config.parser import Value
from triosmtp.config.suggestion import nearest, suggest
from triosmtp.config.value import BadValueError, Type, Warn, quote, text_of

__all__ = ["CAPABILITIES", "CAPABILITY_NAMES", "KEPT"]

_NAMES: Final = """
chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service
net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin
sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override
mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore
"""

CAPABILITY_NAMES: Final = tuple(f"cap_{name}" for name in _NAMES.split())
"""Linux's capabilities (capabilities(7)); the place of each is its number."""

KEPT: Final = frozenset({"cap_net_bind_service"})
"""Those that a listener has a use for.  No other one is kept, whoever asks for it."""

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


CAPABILITIES: Type[frozenset[str]] = Type("capabilities", _read, _write)
