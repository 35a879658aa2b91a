"""How functions of Python are made known to scripts: tables of functions with a name, a state and typed arguments."""

from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

from attrs import Factory, define, frozen

__all__ = [
    "KINDS",
    "HostFunction",
    "HostObject",
    "HostTable",
    "LuaFunction",
    "LuaObject",
    "LuaTable",
    "Parameter",
    "ScriptError",
    "State",
]

State: TypeAlias = Literal["must", "should", "out"]
"""Whether a function is needed by nearly all scripts, is there too, or is one that triosmtp does not have."""

LuaTable: TypeAlias = Any
"""A table of a script: the type is private to lupa.  ``conversion.py`` reads it."""
LuaFunction: TypeAlias = Any
LuaObject: TypeAlias = Any
"""A :class:`HostObject` as scripts have it."""

KINDS: Final = {
    "s": "string",
    "n": "number",
    "i": "number",
    "b": "boolean",
    "t": "table",
    "f": "function",
    "o": "object",
    "a": "value",
}
"""The kinds of parameters, and how errors name them."""


class ScriptError(Exception):
    """An error of a host function that becomes an error of the script, at the line that called the function."""


@frozen(slots=True)
class Parameter:
    """One parameter of a host function."""

    kind: str
    optional: bool


@frozen(slots=True)
class HostFunction:
    """One function, method or field that scripts see.

    ``name`` is ``msys.pcre.match`` for a function of a module, ``vctx:get`` for a method of a class of objects,
    ``vctx.code`` with ``field`` set for a field.
    """

    name: str
    function: Callable[..., Any]
    state: State
    parameters: tuple[Parameter, ...]
    variadic: bool = False
    waits: bool = False
    """Whether ``function`` may return an awaitable: the session waits for it, and the other sessions go on."""
    field: Literal["", "get", "set"] = ""


class HostObject:
    """Base class of the objects that scripts see: ``vctx``, ``ac``, ``msg``.

    ``lua_class`` is the part of a method's name before its colon.  The same Python object is the same value of Lua
    while a script refers to it.  It is held until then.
    """

    lua_class: str = ""


@define(slots=True, eq=False)
class HostTable:
    """Functions and constants that a module of Python declares."""

    functions: list[HostFunction] = Factory(list)
    constants: dict[str, bool | float | bytes] = Factory(dict)
    sources: list[str] = Factory(list)
    """Names of files beside the module with functions that are written in Lua."""

    def function(
        self, name: str, parameters: str = "", *, state: State = "must", waits: bool = False
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Return the decorator that declares a function (``msys.pcre.match``) or a method (``vctx:get``).

        ``parameters`` has a letter of :data:`KINDS` for each argument.  The callout is not counted, nor is the object
        of a method.  ``?`` stands behind the letter of an argument that may be nil or absent.  ``*`` stands at the end
        if more arguments may follow.
        """

        def declare(function: Callable[..., Any]) -> Callable[..., Any]:
            kinds, variadic = _parsed(parameters)
            self.functions.append(HostFunction(name, function, state, kinds, variadic, waits))
            return function

        return declare

    def getter(self, name: str, *, state: State = "must") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Return the decorator that declares how a field is read: ``function(callout, object)``."""

        def declare(function: Callable[..., Any]) -> Callable[..., Any]:
            self.functions.append(HostFunction(name, function, state, (), field="get"))
            return function

        return declare

    def setter(
        self, name: str, kind: str = "a", *, state: State = "must"
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Return the decorator that declares how a field is written: ``function(callout, object, value)``."""

        def declare(function: Callable[..., Any]) -> Callable[..., Any]:
            kinds, _ = _parsed(kind)
            self.functions.append(HostFunction(name, function, state, kinds, field="set"))
            return function

        return declare

    def constant(self, name: str, value: bool | float | bytes) -> None:
        """Declare a constant of a module: ``msys.core.VALIDATE_CONT``."""
        self.constants[name] = value

    def out(self, *names: str) -> None:
        """Declare functions (``msys.db.query``) or whole modules (``msys.db.*``) that triosmtp does not have.

        They load, with one warning; a call is a script error.
        """
        for name in names:
            self.functions.append(HostFunction(name, _not_here, "out", (), variadic=True))


def _not_here(*_arguments: object) -> None:
    raise ScriptError("triosmtp does not have this function")


def _parsed(parameters: str) -> tuple[tuple[Parameter, ...], bool]:
    """Return what a string such as ``"ss?*"`` says.

    :raises ValueError: if it is not such a string.
    """
    variadic = parameters.endswith("*")
    kinds: list[Parameter] = []
    for letter in parameters.removesuffix("*"):
        if letter == "?" and kinds and not kinds[-1].optional:
            kinds[-1] = Parameter(kinds[-1].kind, optional=True)
        elif letter in KINDS:
            kinds.append(Parameter(letter, optional=False))
        else:
            raise ValueError(f"{parameters!r}: {letter!r} is no kind of parameter")
    return tuple(kinds), variadic
