"""Values between Lua and Python.  Strings of Lua are bytes; a table is read only within bounds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from triosmtp.lua.host import KINDS, HostFunction, LuaTable, ScriptError

__all__ = ["bad_argument", "checked", "lua_dict", "lua_list", "octets_of", "text_of"]

_MAX_ITEMS: Final = 100_000
_TABLE: Final = "_LuaTable"
_EXACT: Final[Mapping[str, type]] = {"s": bytes, "i": int}
"""The types that nearly all arguments of these kinds have."""


def type_name(value: object) -> str:
    """Return the name that Lua has for the type of ``value``."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, bytes):
        return "string"
    return {_TABLE: "table", "_LuaFunction": "function", "_LuaThread": "thread"}.get(type(value).__name__, "userdata")


def bad_argument(number: int, function: str, expected: str, value: object) -> ScriptError:
    """Return the error of Lua for an argument of another type."""
    name = function.rpartition(":")[2].rpartition(".")[2]
    return ScriptError(f"bad argument #{number} to '{name}' ({expected} expected, got {type_name(value)})")


def checked(function: HostFunction, arguments: tuple[Any, ...]) -> Sequence[Any]:
    """Return the arguments of a call as the parameters of ``function`` ask for them: missing ones are None.

    As in Lua, a number is taken for a string and a string of digits for a number; what is too much is dropped.

    :raises ScriptError: as Lua's own functions do.
    """
    if len(arguments) == len(function.parameters):
        for value, parameter in zip(arguments, function.parameters, strict=True):
            if type(value) is not _EXACT.get(parameter.kind):
                break
        else:
            return arguments
    values: list[Any] = list(arguments if function.variadic else arguments[: len(function.parameters)])
    values += [None] * (len(function.parameters) - len(values))
    for position, parameter in enumerate(function.parameters):
        value = values[position]
        if value is None:
            if parameter.optional or parameter.kind in "ab":
                continue
            raise bad_argument(position + 1, function.name, KINDS[parameter.kind], value)
        converted = _CONVERT[parameter.kind](value)
        if converted is None:
            raise bad_argument(position + 1, function.name, KINDS[parameter.kind], value)
        values[position] = converted
    return values


def _string(value: Any) -> bytes | None:
    return value if type(value) is bytes else text_of(value) if type(value) in (int, float) else None


def _number(value: Any) -> int | float | None:
    if type(value) in (int, float):
        return value  # type: ignore[no-any-return]
    if type(value) is bytes:
        try:
            return float(value.strip())
        except ValueError:
            return None
    return None


def _integer(value: Any) -> int | None:
    number = _number(value)
    if number is None or number != number or number in (float("inf"), float("-inf")):  # noqa: PLR0124 - not a number
        return None
    return int(number)


_CONVERT: Final[Mapping[str, Callable[[Any], Any]]] = {
    "s": _string,
    "n": _number,
    "i": _integer,
    "b": lambda value: value is not False,
    "t": lambda value: value if type(value).__name__ == _TABLE else None,
    "f": lambda value: value if type_name(value) == "function" else None,
    "o": lambda value: value if type_name(value) == "userdata" else None,
    "a": lambda value: value,
}


def text_of(value: object) -> bytes:
    """Return the text of a string, number or boolean, as ``tostring()`` does.

    :raises ScriptError: if it is something else.
    """
    match value:
        case bytes():
            return value
        case bool():
            return b"true" if value else b"false"
        case int():
            return b"%d" % value if abs(value) < 10**15 else format(float(value), ".14g").encode()
        case float():
            return format(value, ".14g").replace("e+0", "e+").encode()
    raise ScriptError(f"a string is expected, not a {type_name(value)} value")


def octets_of(text: str) -> bytes:
    """Return text as a string of Lua, in UTF-8; half of a surrogate pair becomes ``?``."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def lua_list(table: LuaTable, limit: int = _MAX_ITEMS) -> list[Any]:
    """Return the items 1, 2, … of a table, up to the first nil.

    :raises ScriptError: if there are more than ``limit``.
    """
    found: list[Any] = []
    while (value := table[len(found) + 1]) is not None:
        if len(found) == limit:
            raise ScriptError(f"the table has more than {limit} items")
        found.append(value)
    return found


def lua_dict(table: LuaTable, limit: int = _MAX_ITEMS) -> dict[Any, Any]:
    """Return the items of a table.

    :raises ScriptError: if there are more than ``limit``.
    """
    found: dict[Any, Any] = {}
    for key, value in table.items():
        if len(found) == limit:
            raise ScriptError(f"the table has more than {limit} items")
        found[key] = value
    return found
