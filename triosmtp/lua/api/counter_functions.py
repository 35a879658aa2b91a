"""``msys.audit_series``, ``msys.audit``, ``msys.gauge_cache`` and ``counter``."""

import time
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final

from triosmtp.lua.api.accept_functions import session_count
from triosmtp.lua.api.access import Callout, session_of, text
from triosmtp.lua.api.inbound_audit import AuditError, Kind
from triosmtp.lua.api.rate_counters import CounterError, GaugeCache, Series
from triosmtp.lua.conversion import lua_dict, text_of
from triosmtp.lua.host import HostObject, HostTable, LuaTable, ScriptError

__all__ = ["TABLE"]

TABLE = HostTable()

_MAX_DEFINED: Final = 1000
_MAX_OPTIONS: Final = 20


def _options(value: Any, default: str) -> dict[str, Any]:
    """Return the options of a call: a table, or the one option ``default`` alone."""
    if value is None:
        return {}
    if type(value).__name__ == "_LuaTable":
        return {text(text_of(key)): each for key, each in lua_dict(value, _MAX_OPTIONS).items()}
    return {default: value}


def _whole(options: dict[str, Any], name: str, default: int = 0) -> int:
    value = options.get(name, default)
    try:
        return int(float(value))
    except (TypeError, ValueError, OverflowError):
        raise ScriptError(f"{name} is a number") from None


# msys.audit_series


@TABLE.function("msys.audit_series.define", "ssnit?", state="should")
def _define_series(
    callout: Callout, name: bytes, kind: bytes, seconds: float, windows: int, _options: LuaTable | None
) -> bool:
    try:
        made = Series(text(kind), seconds, windows)
    except CounterError as error:
        raise ScriptError(str(error)) from None
    _keep(callout.engine.resources.series, name, made)
    return True


def _keep(defined: dict[bytes, Any], name: bytes, made: Series | GaugeCache) -> None:
    """Keep what was defined; one that is defined again in the same way goes on."""
    before = defined.get(name)
    if before is not None and before.definition == made.definition:
        return
    if before is None and len(defined) >= _MAX_DEFINED:
        raise ScriptError(f"more than {_MAX_DEFINED} are defined")
    defined[name] = made


def _series(callout: Callout, name: bytes) -> Series:
    found: Series | None = callout.engine.resources.series.get(name)
    if found is None:
        raise ScriptError(f"the audit series {text(name)!r} is not defined")
    return found


def _key(callout: Callout, series: Series, value: Any) -> str:
    """Return the key of a series: for networks an address, ``ac``, or without one the peer."""
    if series.kind == "string":
        if value is None:
            raise ScriptError("a series of strings needs a key")
        return text(text_of(value))
    if value is None or isinstance(value, HostObject):
        return str(session_of(callout).peer_address)
    written = text(text_of(value))
    try:
        network = ip_network(written, strict=False)
    except ValueError as error:
        raise ScriptError(str(error)) from None
    return str(network.network_address) if network.num_addresses == 1 else str(network)


@TABLE.function("msys.audit_series.add", "sa", state="should")
def _add_to_series(callout: Callout, name: bytes, value: Any) -> None:
    series, options = _series(callout, name), _options(value, "key")
    series.add(_key(callout, series, options.get("key")), _whole(options, "count", 1), time.monotonic())


@TABLE.function("msys.audit_series.count", "sa", state="should")
def _count_of_series(callout: Callout, name: bytes, value: Any) -> int:
    series, options = _series(callout, name), _options(value, "key")
    first, last = _whole(options, "startv"), _whole(options, "endv")
    return series.count(_key(callout, series, options.get("key")), first, last, time.monotonic())


@TABLE.function("msys.audit_series.remove_item", "sa", state="should")
def _remove_of_series(callout: Callout, name: bytes, value: Any) -> bool:
    series = _series(callout, name)
    return series.remove(_key(callout, series, _options(value, "key").get("key")))


# msys.audit


def _network(callout: Callout, value: Any) -> IPv4Network | IPv6Network:
    if value is None:
        address = session_of(callout).peer_address
        if address is None:
            raise ScriptError("the peer has no address")
        return ip_network(address)
    written = text(text_of(value))
    if written.startswith("/"):
        written = f"{session_of(callout).peer_address}{written}"
    try:
        return ip_network(written, strict=False)
    except ValueError as error:
        raise ScriptError(str(error)) from None


def _audit(kind: Kind) -> Any:
    def count(callout: Callout, monitor: bytes, value: Any) -> int:
        resources, options = callout.engine.resources, _options(value, "cidr")
        audit = resources.audit
        try:
            if not audit.is_used:
                audit.open(text(monitor))
                resources.observe(audit)
            network = _network(callout, options.get("cidr"))
            found: int = audit.count(text(monitor), kind, network, _whole(options, "startv"), _whole(options, "endv"))
        except AuditError as error:
            raise ScriptError(str(error)) from None
        return found

    return count


_KINDS: Final[tuple[Kind, ...]] = ("connections", "receptions", "rejections")
for _kind in _KINDS:
    TABLE.function(f"msys.audit.{_kind}", "sa", state="should")(_audit(_kind))


@TABLE.function("msys.audit.inbound_session_count", "s?s?", state="should")
def _session_count(callout: Callout, cidr: bytes | None, service: bytes | None) -> int:
    return session_count(callout, cidr, service)


# msys.gauge_cache


@TABLE.function("msys.gauge_cache.define", "sinb?", state="should")
def _define_gauge(callout: Callout, name: bytes, size: int, ttl: float, _replicated: bool | None) -> bool:
    try:
        made = GaugeCache(size, ttl)
    except CounterError as error:
        raise ScriptError(str(error)) from None
    _keep(callout.engine.resources.gauges, name, made)
    return True


def _gauge(callout: Callout, name: bytes) -> GaugeCache:
    found: GaugeCache | None = callout.engine.resources.gauges.get(name)
    if found is None:
        raise ScriptError(f"the gauge cache {text(name)!r} is not defined")
    return found


@TABLE.function("msys.gauge_cache.inc", "ssi?", state="should")
def _gauge_inc(callout: Callout, name: bytes, key: bytes, by: int | None) -> int:
    return _gauge(callout, name).change(text(key), 1 if by is None else by, time.monotonic())


@TABLE.function("msys.gauge_cache.dec", "ssi?", state="should")
def _gauge_dec(callout: Callout, name: bytes, key: bytes, by: int | None) -> int:
    return _gauge(callout, name).change(text(key), -1 if by is None else -by, time.monotonic())


@TABLE.function("msys.gauge_cache.get", "ss", state="should")
def _gauge_get(callout: Callout, name: bytes, key: bytes) -> int:
    return _gauge(callout, name).value(text(key), time.monotonic())


@TABLE.function("msys.gauge_cache.remove_item", "ss", state="should")
def _gauge_remove(callout: Callout, name: bytes, key: bytes) -> bool:
    return _gauge(callout, name).remove(text(key))


# counter


class Counter(HostObject):
    """An open counter."""

    lua_class = "counter"

    def __init__(self, path: str) -> None:
        self.path = path


def _counter(value: Any) -> str:
    """Return the path of a counter, which may be given by its object or by its path."""
    if isinstance(value, Counter):
        return value.path
    return text(text_of(value))


def _open(callout: Callout, path: bytes, _mode: Any) -> Counter:
    try:
        return Counter(callout.engine.resources.counters.open(text(path)))
    except CounterError as error:
        raise ScriptError(str(error)) from None


def _add(callout: Callout, counter: Any, by: int) -> int:
    try:
        found: int = callout.engine.resources.counters.add(_counter(counter), by)
    except CounterError as error:
        raise ScriptError(str(error)) from None
    return found


def _inc(callout: Callout, counter: Any) -> int:
    return _add(callout, counter, 1)


def _read(callout: Callout, counter: Any) -> int:
    found: int = callout.engine.resources.counters.read(_counter(counter))
    return found


def _reset(callout: Callout, counter: Any) -> None:
    callout.engine.resources.counters.reset(_counter(counter))


def _unlink(callout: Callout, counter: Any) -> bool:
    found: bool = callout.engine.resources.counters.unlink(_counter(counter))
    return found


for _module in ("counter", "msys.counter"):
    TABLE.constant(f"{_module}.STRICT", 1)
    TABLE.constant(f"{_module}.RELAXED", 2)
    TABLE.function(f"{_module}.open", "sa", state="should")(_open)
    TABLE.function(f"{_module}.inc", "a", state="should")(_inc)
    TABLE.function(f"{_module}.add", "ai", state="should")(_add)
    TABLE.function(f"{_module}.read", "a", state="should")(_read)
    TABLE.function(f"{_module}.reset", "a", state="should")(_reset)
    TABLE.function(f"{_module}.unlink", "a", state="should")(_unlink)
for _method, _function, _parameters in (
    ("inc", _inc, ""), ("add", _add, "i"), ("read", _read, ""), ("reset", _reset, ""), ("unlink", _unlink, ""),
):  # fmt: skip
    TABLE.function(f"counter:{_method}", _parameters, state="should")(_function)
