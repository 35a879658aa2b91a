"""The functions of ``msys`` itself: look-ups, macros, files, time, configuration, logs."""

import stat
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from triosmtp.dns_client import DNSError
from triosmtp.errors import needs_extra
from triosmtp.lua.api.access import Callout, seen_context, session_of, text
from triosmtp.lua.api.dns_lookup import RECORD_TYPES
from triosmtp.lua.api.macro import MacroValues, expand_macro
from triosmtp.lua.conversion import lua_dict, text_of, type_name
from triosmtp.lua.host import HostObject, HostTable, LuaTable, ScriptError

__all__ = ["TABLE"]

TABLE = HostTable()

_MAX_SLEEP: Final = 300.0
_MAX_FILE: Final = 4 * 1024 * 1024
_LIMITER = trio.CapacityLimiter(4)


@TABLE.function("msys.dnsLookup", "ss?t?", waits=True)
async def _dns_lookup(callout: Callout, name: bytes, kind: bytes | None, options: LuaTable | None) -> Any:
    record_type = "A" if kind is None else text(kind).upper()
    if record_type not in RECORD_TYPES:
        raise ScriptError(f"msys.dnsLookup: {record_type!r} is none of {', '.join(RECORD_TYPES)}")
    found = {} if options is None else {text(text_of(key)): each for key, each in lua_dict(options, 20).items()}
    server = found.get("server")
    server_text = "" if server is None else text(text_of(server))
    try:
        records = await callout.engine.resources.lookups.look_up(text(name), record_type, server_text)
    except DNSError as error:
        return None, error.code
    except ImportError:
        raise ScriptError(f"msys.dnsLookup {needs_extra('dnspython', 'dns')}") from None
    if found.get("priority") in {True, b"true"} and record_type == "MX":
        return [[each.preference, _octets(each.text)] for each in records]
    return [_octets(each.text) for each in records]


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")  # a TXT record has any


@TABLE.function("msys.expandMacro", "s")
def _expand_macro(callout: Callout, source: bytes) -> str:
    session = session_of(callout)
    connection, message = seen_context(session.variables), seen_context(session.message_variables)
    values = MacroValues(
        connection=connection,
        message=message,
        address=session.peer_address,
        helo=connection.get("ehlo_domain", ""),
        sender=(message.get("mailfrom_localpart", ""), message.get("mailfrom_domain", "")),
        now=datetime.now(UTC),
    )
    try:
        return expand_macro(text(source), values)
    except ValueError as error:
        raise ScriptError(str(error)) from None


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError("not a file")
        data = file.read(_MAX_FILE + 1)
    if len(data) > _MAX_FILE:
        raise OSError(f"longer than {_MAX_FILE} octets")
    return data


def _readable(callout: Callout, path: bytes) -> bytes:
    """Read a file of the folders of scripts.  It blocks."""
    return _read_file(callout.engine.resources.readable(text(path)))


@TABLE.function("msys.readfile", "s", state="should", waits=True)
async def _readfile(callout: Callout, path: bytes) -> Any:
    try:
        return await trio.to_thread.run_sync(partial(_readable, callout, path), limiter=_LIMITER)
    except (OSError, ValueError) as error:
        return None, getattr(error, "strerror", None) or str(error)


@TABLE.function("msys.sleep", "n", state="should", waits=True)
async def _sleep(_callout: Callout, seconds: float) -> None:
    if not 0 <= seconds <= _MAX_SLEEP:
        raise ScriptError(f"msys.sleep: 0 to {_MAX_SLEEP:g} seconds")
    await trio.sleep(seconds)


@TABLE.function("msys.asyncOk", "", state="should")
def _async_ok(callout: Callout) -> bool:
    return callout.session is not None


@TABLE.function("msys.type", "a", state="should")
def _type(_callout: Callout, value: Any) -> str:
    return value.lua_class if isinstance(value, HostObject) else type_name(value)


@TABLE.function("msys.config", "ssa", state="should")
def _config(callout: Callout, verb: bytes, name: bytes, _new: Any) -> Any:
    if verb != b"get":
        raise ScriptError("msys.config: scripts read the configuration and do not set it")
    found = callout.engine.resources.option(text(name))
    if found is None:
        return None
    value, written = found
    if isinstance(value, str):
        return value, value
    if isinstance(value, tuple) and all(isinstance(each, str) for each in value):
        return list(value), written
    return (value if isinstance(value, bool | int | float) else written), written


@TABLE.function("msys.core.get_now_ts", "", state="should")
def _get_now_ts(_callout: Callout) -> float:
    return time.time()


@TABLE.function("msys.get_now_ts", "", state="should")
def _msys_get_now_ts(_callout: Callout) -> float:
    return time.time()


_LEVELS: Final = {"LOG_ERROR": 40, "LOG_WARNING": 30, "LOG_INFO": 20, "LOG_DEBUG": 10}
for _name, _level in _LEVELS.items():
    TABLE.constant(f"msys.core.{_name}", _level)


@TABLE.function("msys.log", "is*", state="should")
def _log(callout: Callout, level: int, *words: Any) -> None:
    callout.engine.log(level if level in _LEVELS.values() else 20, b"\t".join(text_of(each) for each in words))
