"""``msys.cidr``: ``define`` in ``init``, ``query`` and ``reload``."""

import logging
import time
from collections.abc import Awaitable
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import trio

from triosmtp.lua.api.access import Callout, session_of, text
from triosmtp.lua.api.cidr_map import CidrError, CidrMap, CidrOptions
from triosmtp.lua.conversion import lua_dict, text_of
from triosmtp.lua.host import HostTable, LuaTable, ScriptError

__all__ = ["TABLE"]

TABLE = HostTable()

_log = logging.getLogger("triosmtp.lua")
_MAX_DEFINED: Final = 100
_LIMITER = trio.CapacityLimiter(4)


def _source(callout: Callout, path: str) -> Path:
    """Return the file of a map.  An absolute path may be anywhere: ``define`` is for the load of the scripts.

    :raises ScriptError: if a session names such a path.
    :raises ValueError: if a relative path is in no folder that scripts may read.
    """
    if not path.startswith("/"):
        found: Path = callout.engine.resources.readable(path)
        return found
    if callout.session is not None:
        raise ScriptError("msys.cidr.define with an absolute path is for init")
    return Path(path)


def _options(callout: Callout, table: LuaTable) -> CidrOptions:
    """Return the options of ``define``.

    :raises ScriptError: if they are not valid.
    """
    found = {text(text_of(key)): value for key, value in lua_dict(table, 20).items()}
    kind, default = text(text_of(found.get("type", b""))), found.get("default_value")
    value = text_of(found.get("value", found.get("record_type", b"txt"))).lower()
    if kind not in {"rbldnsd", "empty"}:
        raise ScriptError(f"msys.cidr.define: the type {kind!r} is none of rbldnsd, empty")
    if value not in {b"a", b"txt"}:
        raise ScriptError("msys.cidr.define: value is a or txt")
    if kind == "rbldnsd" and not isinstance(found.get("source"), bytes):
        raise ScriptError("msys.cidr.define: an rbldnsd file needs a source")
    try:
        refresh = float(found.get("refresh", 1800))
        source = _source(callout, text(found["source"])) if kind == "rbldnsd" else None
    except (TypeError, ValueError) as error:
        raise ScriptError(f"msys.cidr.define: {error}") from None
    return CidrOptions(
        kind="rbldnsd" if source is not None else "empty",
        source=source,
        refresh=refresh if refresh > 0 else float("inf"),
        value="a" if value == b"a" else "txt",
        interpolate=found.get("interpolate") in {True, b"true"},
        default=None if default is None else text(text_of(default)),
    )


@TABLE.function("msys.cidr.define", "st")
def _define(callout: Callout, name: bytes, options: LuaTable) -> bool:
    networks = callout.engine.resources.networks
    if callout.session is not None:
        raise ScriptError("msys.cidr.define is for init: it reads a file")
    if len(networks) >= _MAX_DEFINED:
        raise ScriptError(f"more than {_MAX_DEFINED} maps are defined")
    try:
        networks[name] = CidrMap.open(_options(callout, options), time.monotonic())
    except CidrError as error:
        raise ScriptError(f"msys.cidr.define: {error}") from None
    return True


def _map(callout: Callout, name: bytes) -> CidrMap:
    found: CidrMap | None = callout.engine.resources.networks.get(name)
    if found is None:
        raise ScriptError(f"the CIDR map {text(name)!r} is not defined")
    return found


async def _read_again(name: bytes, networks: CidrMap) -> bool:
    networks.due = time.monotonic() + networks.options.refresh  # no other session reads it, too
    try:
        await trio.to_thread.run_sync(networks.reload, time.monotonic(), limiter=_LIMITER)
    except CidrError as error:
        _log.error("the CIDR map %r keeps what it had: %s", text(name), error)
        return False
    return True


def _address(written: str) -> Any:
    """Return an address; None if it is none, so that no text of a peer is an error: no network has it."""
    try:
        return ip_address(written.strip("[] "))
    except ValueError:
        return None


@TABLE.function("msys.cidr.query", "sa", waits=True)
def _query(callout: Callout, name: bytes, address: Any) -> Any:
    networks = _map(callout, name)
    asked = session_of(callout).peer_address if address is None else _address(text(text_of(address)))
    if time.monotonic() < networks.due:
        return networks.query(asked)
    return _queried_again(name, networks, asked)


async def _queried_again(name: bytes, networks: CidrMap, asked: Any) -> str | None:
    await _read_again(name, networks)
    return networks.query(asked)


@TABLE.function("msys.cidr.reload", "s", waits=True)
def _reload(callout: Callout, name: bytes) -> Awaitable[bool]:
    return _read_again(name, _map(callout, name))
