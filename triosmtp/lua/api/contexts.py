"""The contexts of scripts: ``vctx:get``, ``vctx:set``, ``msg:context_get`` and the others."""

from typing import Any, Final

from triosmtp.lua.api.access import CONN, MESS, Callout, context_of, seen_value, text
from triosmtp.lua.conversion import text_of
from triosmtp.lua.host import HostObject, HostTable, ScriptError
from triosmtp.variables import is_reserved

__all__ = ["TABLE"]

TABLE = HostTable()

_MAX_KEYS: Final = 1000
_MAX_KEY: Final = 1024
_MAX_VALUE: Final = 64 * 1024
_SHORT: Final = 1024  # octets of a value that needs no look at the others
_MAX_CONTEXT: Final = 1024 * 1024

for _name in ("VCTX_CONN", "ECMESS_CTX_CONN"):
    TABLE.constant(f"msys.core.{_name}", CONN)
for _name in ("VCTX_MESS", "ECMESS_CTX_MESS"):
    TABLE.constant(f"msys.core.{_name}", MESS)
for _name in (
    "mailfrom_string", "mailfrom_localpart", "mailfrom_domain", "rcptto_string", "rcptto_localpart", "rcptto_domain",
    "ehlo_string", "ehlo_domain", "auth_user", "can_relay",
):  # fmt: skip
    TABLE.constant(f"msys.core.STANDARD_KEY_{_name.upper()}", _name.encode("ascii"))
for _name in ("vctx", "message", "ac", "message_routing"):
    TABLE.constant(f"msys.extended.{_name}._NAME", f"msys.extended.{_name}".encode("ascii"))


def _get(callout: Callout, _object: HostObject, kind: int, key: bytes) -> str:
    return seen_value(context_of(callout, kind), text(key)) or ""


def _set(callout: Callout, _object: HostObject, kind: int, key: bytes, value: Any) -> None:
    context, name, octets = context_of(callout, kind), text(key), text_of(value)
    if is_reserved(name):
        raise ScriptError(f"the context variable '{name}' is written by the TLS engine alone")
    if len(key) > _MAX_KEY or len(octets) > _MAX_VALUE:
        raise ScriptError("the context variable is too long")
    if name not in context and len(context) >= _MAX_KEYS:
        raise ScriptError(f"the context has {_MAX_KEYS} variables already")
    if len(octets) > _SHORT:
        others = sum(len(value) for other, value in context.items() if other != name)
        if others + len(octets) > _MAX_CONTEXT:
            raise ScriptError(f"the variables of the context are longer than {_MAX_CONTEXT} octets")
    context[name] = text(octets)


def _exists(callout: Callout, _object: HostObject, kind: int, key: bytes) -> int:
    return int(seen_value(context_of(callout, kind), text(key)) is not None)


def _exists_and_get(callout: Callout, _object: HostObject, kind: int, key: bytes) -> tuple[int, str | None]:
    value = seen_value(context_of(callout, kind), text(key))
    return int(value is not None), value


def _delete(callout: Callout, _object: HostObject, kind: int, key: bytes) -> int:
    context, name = context_of(callout, kind), text(key)
    if is_reserved(name):
        raise ScriptError(f"the context variable '{name}' is written by the TLS engine alone")
    return int(context.pop(name, None) is not None)


for _verb, _function, _parameters in (
    ("get", _get, "is"),
    ("set", _set, "isa"),
    ("exists", _exists, "is"),
    ("exists_and_get", _exists_and_get, "is"),
    ("delete", _delete, "is"),
):
    TABLE.function(f"vctx:{_verb}", _parameters)(_function)
    TABLE.function(f"msg:context_{_verb}", _parameters)(_function)


@TABLE.function("msys.core.ec_message_context_get", "ois")
def _of_message_get(callout: Callout, message: HostObject, kind: int, key: bytes) -> str:
    return _get(callout, message, kind, key)


@TABLE.function("msys.core.ec_message_context_set", "oisa")
def _of_message_set(callout: Callout, message: HostObject, kind: int, key: bytes, value: Any) -> None:
    _set(callout, message, kind, key, value)
