"""What Lua calls: host functions behind functions that never raise.

An exception that crossed into Lua would reach scripts as an object of Python.  So each call returns true and its
results, false and the text of an error, or nil if the session has to wait (``prelude/bounds.lua`` reads it).
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from inspect import isawaitable
from typing import Any, Final

import lupa.luajit21 as lupa
from attrs import define, field

from triosmtp.lua.conversion import checked, octets_of
from triosmtp.lua.host import HostFunction, HostObject, HostTable, ScriptError

__all__ = ["LUA_ERRORS", "HostCalls", "internal", "new_runtime"]

_log = logging.getLogger("triosmtp.lua")

LUA_ERRORS: Final = (lupa.LuaError, lupa.LuaMemoryError)
"""Errors that leave Lua: of memory, outside of a script."""

_VALUES: Final = frozenset({bytes, int, float, bool, type(None)})
"""Values that are the same on both sides."""
_PLAIN: Final = frozenset({bool, int, float})
_SMALL: Final = 1024  # bytes of a string that is passed without a check: the state has a reserve
_OBJECT_TYPE: Final = "_LuaObject"


@define(slots=True, eq=False)
class HostCalls:
    """The host functions of one state, and the objects that its scripts hold."""

    _lua: Any
    _objects: Any
    """The table of ``prelude/objects.lua``."""
    _memory: int
    current: Any = field(default=None, init=False)
    """The callout that runs: what host functions get as their first argument."""
    waiting: Awaitable[Any] | None = field(default=None, init=False)
    """The awaitable on which the callout that has just stopped depends."""
    _object: Any = field(init=False)
    _handle_of: Any = field(init=False)
    _by_number: dict[int, HostObject] = field(factory=dict, init=False)
    _numbers: dict[int, int] = field(factory=dict, init=False)
    _count: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._object = self._objects.object
        self._handle_of = self._objects.handle_of

    def define(self, tables: Iterable[HostTable]) -> None:
        """Make the functions, methods, fields and constants of ``tables`` known to scripts."""
        for table in tables:
            for name, value in table.constants.items():
                path, _, last = name.rpartition(".")
                self._objects.define_constant(path.encode(), last.encode(), value)
            for function in table.functions:
                if not function.name.endswith(".*"):
                    self._define_one(function)

    def _define_one(self, function: HostFunction) -> None:
        is_method = ":" in function.name
        kind = {"get": "getter", "set": "setter"}.get(function.field, "method" if is_method else "function")
        owner, _, last = function.name.rpartition(":" if is_method else ".")
        called = partial(self._call if kind == "function" else self._call_method, function)
        self._objects[f"define_{kind}".encode()](owner.encode(), last.encode(), called)

    def _call(self, function: HostFunction, *arguments: Any) -> tuple[Any, ...]:
        try:
            return self._called(function, function.function(self.current, *self._checked(function, arguments)))
        except Exception as error:  # noqa: BLE001 - see the top of the module
            return _failed(function, error)

    def _call_method(self, function: HostFunction, number: int, *arguments: Any) -> tuple[Any, ...]:
        try:
            itself, values = self._by_number[number], self._checked(function, arguments)
            return self._called(function, function.function(self.current, itself, *values))
        except Exception as error:  # noqa: BLE001 - see the top of the module
            return _failed(function, error)

    def _checked(self, function: HostFunction, arguments: tuple[Any, ...]) -> Sequence[Any]:
        for value in arguments:
            if type(value) not in _VALUES:
                return checked(function, tuple(map(self.from_lua, arguments)))
        return checked(function, arguments)

    def _called(self, function: HostFunction, result: Any) -> tuple[Any, ...]:
        if function.waits and isawaitable(result):
            self.waiting = result
            return (None,)
        return self.results(result)

    def results(self, result: Any) -> tuple[Any, ...]:
        """Return what Lua gets for the result of a host function; a tuple is several results."""
        if type(result) is tuple:
            return True, *map(self.to_lua, result)
        return True, self.to_lua(result)

    async def awaited(self) -> tuple[Any, ...]:
        """Await what the callout that has just stopped waits for, and return what Lua gets for it."""
        awaitable, self.waiting = self.waiting, None
        assert awaitable is not None
        try:
            return self.results(await awaitable)
        except Exception as error:  # noqa: BLE001 - see the top of the module
            return _reported(error)

    def from_lua(self, value: Any) -> Any:
        """Return the object of the host behind ``value``, if it is one; else ``value``."""
        if type(value).__name__ != _OBJECT_TYPE:
            return value
        number = self._handle_of(value)
        return value if number is None else self._by_number[number]

    def to_lua(self, value: Any) -> Any:
        """Return ``value`` as scripts get it: text and bytes as strings, lists and mappings as new tables.

        :raises ScriptError: if there is no memory for it.
        """
        if value is None or type(value) in _PLAIN:
            return value
        if isinstance(value, str):
            value = octets_of(value)
        if isinstance(value, bytes):
            if len(value) > _SMALL:
                self._check_memory(len(value))
            return value
        if isinstance(value, HostObject):
            return self._object(value.lua_class.encode(), self._number(value))
        if isinstance(value, Mapping):
            self._check_memory(64 * len(value))
            return self._lua.table_from({self.to_lua(key): self.to_lua(each) for key, each in value.items()})
        if isinstance(value, list | tuple):
            self._check_memory(32 * len(value))
            return self._lua.table_from([self.to_lua(each) for each in value])
        return value  # a table or function of a script

    def _check_memory(self, size: int) -> None:
        if self._lua.get_memory_used() + size > self._memory:
            self._lua.gccollect()
            if self._lua.get_memory_used() + size > self._memory:
                raise ScriptError("not enough memory")

    def _number(self, value: HostObject) -> int:
        number = self._numbers.get(id(value))
        if number is None:
            self._count += 1
            number = self._numbers[id(value)] = self._count
            self._by_number[number] = value
        return number

    def drain(self) -> None:
        """Release the objects that no script refers to any more."""
        for number in map(int, self._objects.drain().split()):
            value = self._by_number.pop(number, None)
            if value is not None:
                del self._numbers[id(value)]


def _reported(error: Exception) -> tuple[bool, bytes]:
    """Return what Lua gets for an error of the host; log it if it is not one that a script may cause."""
    if isinstance(error, ScriptError):
        return False, str(error).encode("utf-8", "replace")
    _log.error("a host function failed: %r", error, exc_info=error)
    return False, f"internal error: {type(error).__name__}".encode()


def _failed(function: HostFunction, error: Exception) -> tuple[bool, bytes]:
    if isinstance(error, LUA_ERRORS):  # of a metamethod of a table that the function has read
        return False, str(error).partition("\nstack traceback:")[0].encode("utf-8", "replace")
    if not isinstance(error, ScriptError):
        _log.error("the host function %s failed: %r", function.name, error, exc_info=error)
        return False, f"internal error in {function.name}: {type(error).__name__}".encode()
    if function.state == "out":
        return False, f"triosmtp does not have {function.name}".encode()
    return _reported(error)


def internal(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function for ``prelude/``: it returns the results of ``function``, or nil and the text of the error."""

    def called(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except ScriptError as error:
            return None, str(error).encode("utf-8", "replace")
        except Exception as error:  # noqa: BLE001 - see the top of the module
            _log.error("%s failed: %r", function, error, exc_info=error)
            return None, b"internal error"

    return called


def new_runtime(memory: int) -> Any:
    """Return a runtime without its compiler, whose memory is bounded."""
    lua = lupa.LuaRuntime(
        encoding=None, register_eval=False, register_builtins=False, unpack_returned_tuples=True, max_memory=memory
    )
    lua.execute(b"jit.off()")
    return lua
