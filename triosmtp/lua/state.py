"""One Lua state: the runtime with its limits, and the run of a callout.

LuaJIT 2.1 by lupa, without its compiler: its count hook holds in every coroutine, and a coroutine may wait within
``pcall``.  The Lua side is in ``prelude/``, and ``host_calls.py`` is the Python side of ``prelude/objects.lua``.

A script waits for the host by a yield of its coroutine, and :meth:`LuaState.run` then awaits what the host function
returned.  So one state serves all sessions of a process, and no script holds up the event loop longer than its limits.
"""

from collections.abc import Callable, Iterable
from importlib.resources import files
from math import inf
from typing import Any, Final

import trio
from attrs import frozen

from triosmtp.lua.host import HostTable, LuaFunction, LuaTable, ScriptError
from triosmtp.lua.host_calls import LUA_ERRORS, HostCalls, internal, new_runtime

__all__ = ["Failure", "LuaLimits", "LuaState"]

_STEP: Final = 250  # instructions between two checks
_RESERVE: Final = 8 << 20
"""Bytes beyond the limit, for what the host writes."""
_MAX_STEPS: Final = 100_000  # of the matcher of Lua, which cannot be stopped: half a millisecond
_DRAIN: Final = 64  # callouts after which objects that no script refers to are released


@frozen(slots=True, kw_only=True)
class LuaLimits:
    """What scripts may use: instructions and processor time of a callout, memory of the state."""

    instructions: int = 20_000_000
    cpu_seconds: float = 0.5
    """Between two waits, of the whole process: threads count too."""
    memory: int = 64 << 20


class Failure(Exception):  # noqa: N818 - it is the end of a callout
    """A callout ended by an error: its text, with the script's file and line, and the traceback of Lua.

    ``limit`` is whether it exceeded a limit, so that no ``pcall`` of the script could catch the error.
    """

    def __init__(self, text: str, traceback: str = "", *, limit: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.traceback = traceback
        self.limit = limit


class LuaState:
    """A Lua state with the functions of the host.

    ``translate(text, chunk)`` returns the source text of Lua 5.1 for that of a script.  ``find_module(name)`` returns
    the translated text of a module and the name of its chunk.  Both raise :class:`ScriptError` with the reason.
    ``output`` gets what scripts print.
    """

    def __init__(
        self,
        tables: Iterable[HostTable],
        *,
        limits: LuaLimits,
        translate: Callable[[bytes, bytes], bytes],
        find_module: Callable[[bytes], tuple[bytes, bytes]],
        output: Callable[[bytes], None],
    ) -> None:
        self.limits = limits
        self._runs = 0
        self._lua = new_runtime(limits.memory + _RESERVE)
        shared = self._lua.table_from({
            b"step": _STEP, b"max_cpu": limits.cpu_seconds, b"soft_kb": limits.memory / 1024,
            b"max_string": limits.memory // 4, b"ballast": _RESERVE // 4, b"max_steps": _MAX_STEPS,
            b"output": internal(output), b"translate": internal(translate), b"find_module": internal(find_module),
        })  # fmt: skip
        loaded = self._lua.table()
        self._bounds = self._trusted("prelude/bounds", shared)
        self._begin, self._go_on, self._abandon = self._bounds.begin, self._bounds.go_on, self._bounds.abandon
        self._objects = self._trusted("prelude/objects", self._bounds, loaded)
        self.calls = HostCalls(self._lua, self._objects, limits.memory)
        tables = tuple(tables)
        for name in ("operators", "patterns", "sizes"):
            self._trusted(f"prelude/{name}", shared, self._bounds)
        self.run_script: LuaFunction = self._trusted("prelude/sandbox", shared, self._bounds, loaded).run_script
        """Runs a script of the configuration by its name, once."""
        self.calls.define(tables)
        for table in tables:
            for source in table.sources:
                self._trusted(source, shared, self._bounds, self._objects)
        self.scripts = self._trusted("prelude/scripts", shared, self._bounds, self._objects)
        """The Lua side of ``engine.py``: ``prelude/scripts.lua``."""
        self.call_module: LuaFunction = self.scripts.call
        self.call_command: LuaFunction = self.scripts.call_command

    def _trusted(self, path: str, *arguments: object) -> Any:
        """Run a file of this package (``prelude/bounds``) and return its result."""
        source = files("triosmtp.lua").joinpath(f"{path}.lua").read_bytes()
        return self._lua.compile(source, name=f"={path}.lua".encode(), mode=b"t")(*arguments)

    @property
    def memory_used(self) -> int:
        """The bytes that the state uses."""
        return int(self._lua.get_memory_used())

    def compile(self, text: bytes, chunk: bytes) -> LuaFunction:
        """Return the function of a translated chunk; ``chunk`` is its name as Lua has it (``@policy.lua``).

        :raises ScriptError: with the message of the compiler, which has the file and line.
        """
        try:
            found, message = self._bounds.compile(text, chunk)
        except LUA_ERRORS:
            raise ScriptError("not enough memory") from None
        if found is None:
            raise ScriptError(message.decode("utf-8", "replace"))
        return found

    async def run(
        self,
        current: Any,
        function: LuaFunction,
        *arguments: Any,
        tls: LuaTable | None = None,
        deadline: float = inf,
    ) -> Any:
        """Run a function as a callout and return its first result.  It waits as often as the script does.

        ``current`` is what host functions get as their first argument meanwhile, and ``tls`` is the global _TLS.
        ``deadline`` is on Trio's clock.

        :raises Failure: if the script fails or exceeds a limit.
        :raises trio.TooSlowError: if the script still waits at the deadline.
        """
        self._runs += 1
        number = self._runs
        if number % _DRAIN == 0:
            self.calls.drain()
        try:
            values = map(self.calls.to_lua, arguments)
            outcome = self._enter(current, self._begin, number, self.limits.instructions, tls, function, *values)
            while outcome == b"wait":
                with trio.fail_at(deadline):
                    resumed = await self.calls.awaited()
                outcome = self._enter(current, self._go_on, number, *resumed)
        except ScriptError as error:  # no memory for the arguments
            raise Failure(str(error)) from None
        except BaseException:
            self._abandon(number)
            raise
        kind, first, *rest = outcome
        if kind == b"done":
            return self.calls.from_lua(first)
        text, traceback = (each.decode("utf-8", "replace") for each in (first, rest[0]))
        raise Failure(text, traceback, limit=kind == b"limit")

    def _enter(self, current: Any, function: Any, *arguments: Any) -> Any:
        self._check_memory()
        calls = self.calls
        previous, calls.current = calls.current, current
        try:
            return function(*arguments)
        except LUA_ERRORS:  # of memory, outside of the script
            self._lua.gccollect()
            raise Failure("not enough memory", limit=True) from None
        finally:
            calls.current = previous

    def is_full(self) -> bool:
        """Return whether scripts hold all memory that they may use."""
        if self.memory_used > self.limits.memory // 2:
            self._lua.gccollect()
        return self.memory_used > self.limits.memory // 10 * 9

    def _check_memory(self) -> None:
        """Check that the host can write to the state: an error of memory outside of a script would end the process.

        :raises Failure: if scripts hold all memory that they may use.
        """
        if self.memory_used > self.limits.memory:
            self._lua.gccollect()
            if self.memory_used > self.limits.memory:
                raise Failure("not enough memory", limit=True)
