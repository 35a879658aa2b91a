"""One set of scripts: loading them, and running their callouts.

A set is loaded as a whole, or not at all.  A reload loads another one, and a session keeps the set that it began with.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Final

import trio
from attrs import define, frozen

from triosmtp.lua import answer_functions
from triosmtp.lua.api import TABLES
from triosmtp.lua.api.resources import Resources
from triosmtp.lua.callout import Ac, Callout, Mc, Msg, SessionScripts, Vctx
from triosmtp.lua.host import LuaFunction, LuaTable, ScriptError
from triosmtp.lua.module_finder import ModuleFinder
from triosmtp.lua.state import Failure, LuaLimits, LuaState
from triosmtp.lua.translate import translate
from triosmtp.policy import Session

__all__ = ["CALLOUTS", "Engine", "LoadError", "ScriptSource"]

_log = logging.getLogger("triosmtp.lua")

CALLOUTS: Final[Mapping[str, str]] = {
    "core_validate_accept": "connect",
    "validate_connect": "connect",
    "validate_ehlo": "ehlo",
    "core_inbound_smtp_tls_post_accept": "starttls",
    "core_validate_auth_hook": "auth",
    "core_validate_auth": "auth",
    "validate_mailfrom": "mailfrom",
    "validate_rcptto": "rcptto",
    "validate_data": "data_spool",
    "validate_data_spool": "data_spool",
    "validate_rcptto_list": "data_spool",
    "validate_rcptto_list_final": "data_spool",
    "validate_data_spool_each_rcpt": "data_spool_each_rcpt",
    "validate_dealloc": "",
    "ac_auth_perform_auth": "",
}
"""The callouts and their phases; ``""``: they belong to none."""
_SETUP: Final = ("init", "rsrc_setup")
_HOOK: Final = re.compile(r"(?:core_|validate_|http_|msg_gen_|ac_auth_)[a-z_]+").fullmatch
"""Names of hooks of Momentum."""
_MAX_LINE: Final = 1024  # octets of a line for the log
_RESTART_SECONDS: Final = 1.0
_LOAD_SECONDS: Final = 60.0
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


@frozen(slots=True)
class ScriptSource:
    """A script of the configuration."""

    name: str
    source: str


class LoadError(Exception):
    """A set of scripts that cannot be used: the first one that failed, and why, with file and line."""

    def __init__(self, script: ScriptSource, text: str) -> None:
        super().__init__(text)
        self.script = script
        self.others: tuple[LoadError, ...] = ()
        """The errors of other scripts of the set."""


@define(slots=True, eq=False)
class _Module:
    """A module that a script has registered."""

    number: int
    name: str
    script: ScriptSource
    methods: frozenset[str]


class Engine:
    """A set of scripts in one Lua state."""

    def __init__(
        self,
        scripts: Iterable[ScriptSource],
        folders: Iterable[Path],
        *,
        limits: LuaLimits = LuaLimits(),  # noqa: B008 - frozen
        resources: Resources | None = None,
    ) -> None:
        self.scripts = tuple(scripts)
        self.limits = limits
        self.warnings: list[tuple[ScriptSource | None, str]] = []
        """Warnings from the load of the scripts."""
        self.controls: dict[bytes, LuaFunction] = {}
        """The commands of the console that scripts have registered."""
        self.authenticators: dict[bytes, LuaTable] = {}
        """The authenticators that scripts have registered, by their schemes."""
        missing = {each.name.removesuffix(".*") for table in TABLES for each in table.functions if each.state == "out"}
        self._finder = ModuleFinder(folders, missing, self._warn_once)
        self.resources = resources or Resources(folders=self._finder.folders)
        self.modules: tuple[_Module, ...] = ()
        self.is_loaded = False
        self._loading: ScriptSource | None = None
        self._warned: set[str] = set()
        self._sessions: dict[Session, SessionScripts] = {}
        self._former: LuaState | None = None
        """The state before a restart: callouts may still wait in it."""
        self._restarted = float("-inf")
        self._state = self._new_state()

    def _new_state(self) -> LuaState:
        return LuaState(
            (*TABLES, answer_functions.TABLE),
            limits=self.limits,
            translate=translate,
            find_module=self._finder.find,
            output=self._print,
        )

    # Loading

    def preload(self) -> None:
        """Read and translate the scripts and what they require.  Blocks: for a thread, before :meth:`load`."""
        self._finder.preload(script.source.encode("utf-8", "surrogateescape") for script in self.scripts)

    async def load(self) -> None:
        """Load every script, and run what is to run before the first session.

        :raises LoadError: if one cannot be loaded, or fails.
        """
        self.modules = await self._load_into(self._state)
        self.is_loaded = True

    async def _load_into(self, state: LuaState) -> tuple[_Module, ...]:
        registered: list[tuple[int, ScriptSource]] = []
        failed: list[LoadError] = []
        for script in self.scripts:
            before = state.scripts.count()
            try:
                await self._load_one(state, script)
            except LoadError as error:
                failed.append(error)
            registered += [(number, script) for number in range(before + 1, state.scripts.count() + 1)]
        if failed:
            failed[0].others = tuple(failed[1:])
            raise failed[0]
        modules = tuple([await self._module(state, number, script) for number, script in registered])
        for method in _SETUP:
            for module in modules:
                if method in module.methods:
                    await self._set_up(state, module, method)
        return modules

    async def _restart(self, state: LuaState) -> None:
        """Load the scripts into a new state, since they hold all memory of ``state``: what they kept there is lost."""
        now = trio.current_time()
        if state is not self._state or now < self._restarted + _RESTART_SECONDS:
            return
        self._restarted = now
        _log.error("the scripts hold all of Script_Max_Memory: they are loaded again, and their globals are lost")
        try:
            new = self._new_state()
            modules = await self._load_into(new)
        except LoadError as error:
            _log.error("script %s cannot be loaded again: %s", error.script.name, error)
            return
        self._former, self._state, self.modules = state, new, modules
        self._sessions.clear()

    async def _load_one(self, state: LuaState, script: ScriptSource) -> None:
        self._loading = script
        state.scripts.set_loading(True)
        callout = Callout(engine=self, phase="load", module=script.name)
        try:
            with trio.fail_after(_LOAD_SECONDS):
                text, chunk = self._finder.find(script.source.encode("utf-8", "surrogateescape"))
                state.compile(text, chunk)  # so that an error of the syntax is alone in the message
                await state.run(callout, state.run_script, script.source)
        except ScriptError as error:
            raise LoadError(script, str(error)) from None
        except Failure as error:
            raise LoadError(script, f"{error.text}{error.traceback}") from None
        except trio.TooSlowError:
            raise LoadError(script, f"it was not loaded within {_LOAD_SECONDS:.0f} s") from None
        finally:
            state.scripts.set_loading(False)
            callout.close()
            self._loading = None

    async def _module(self, state: LuaState, number: int, script: ScriptSource) -> _Module:
        name = state.scripts.name(number).decode("utf-8", "replace")
        callout = Callout(engine=self, phase="load", module=name)
        try:
            found = await state.run(callout, state.scripts.methods, number, " ".join((*CALLOUTS, *_SETUP, "deinit")))
        except Failure as error:
            raise LoadError(script, f"the table of {name}: {error.text}{error.traceback}") from None
        finally:
            callout.close()
        methods = frozenset(found.decode().split())
        if name != script.name:
            self._warn(script, f'registerModule("{name}", …): the name of the stanza is "{script.name}"')
        if not methods:
            self._warn(script, f"no usable methods found for module {name} in registerModule call")
        for hook in filter(_HOOK, state.scripts.hooks(number).decode("ascii").split()):
            if hook not in CALLOUTS:
                self._warn(script, f"{hook} of {name} is never called here")
        return _Module(number, name, script, methods)

    async def _set_up(self, state: LuaState, module: _Module, method: str) -> None:
        callout = Callout(engine=self, phase=method, method=method, module=module.name)
        self._loading = module.script
        try:
            with trio.fail_after(_LOAD_SECONDS):
                result = await state.run(callout, state.scripts.call_without_session, module.number, method)
        except Failure as error:
            raise LoadError(module.script, f"{method} of {module.name}: {error.text}{error.traceback}") from None
        except trio.TooSlowError:
            text = f"{method} of {module.name} did not end within {_LOAD_SECONDS:.0f} s"
            raise LoadError(module.script, text) from None
        finally:
            callout.close()
            self._loading = None
        if result is not True:
            raise LoadError(module.script, f"{method} of {module.name} must return true")

    async def close(self) -> None:
        """Run ``deinit`` of every module: the set is not used any more."""
        if not self.is_loaded:
            return
        self.is_loaded = False
        for module in self.modules:
            if "deinit" not in module.methods:
                continue
            callout = Callout(engine=self, phase="deinit", method="deinit", module=module.name)
            try:
                with trio.fail_after(_LOAD_SECONDS):
                    await self._state.run(callout, self._state.scripts.call_without_session, module.number, "deinit")
            except (Failure, trio.TooSlowError) as error:
                _log.error("script %s: deinit failed: %s", module.name, error)
            finally:
                callout.close()
        await self.resources.aclose()

    # Running

    def methods(self, method: str) -> tuple[_Module, ...]:
        """Return the modules that have a callout, in the order of their scripts."""
        return tuple(module for module in self.modules if method in module.methods)

    def of_session(self, session: Session) -> SessionScripts:
        """Return what the scripts keep for a session."""
        found = self._sessions.get(session)
        if found is None:
            state = self._state
            table = state.scripts.new_session()
            objects = map(state.calls.to_lua, (Vctx(), Ac(), Msg(), Mc()))
            found = self._sessions[session] = SessionScripts(session, state, table, state.scripts.tls(table), *objects)
            session.call_at_end(partial(self._end_session, found))
        return found

    def _end_session(self, scripts: SessionScripts) -> None:
        """Run ``validate_dealloc`` of the modules whose callouts have run, and forget the session."""
        for module in self.methods("validate_dealloc"):
            if module.number in scripts.called:
                callout = Callout(engine=self, phase="dealloc", method="validate_dealloc", scripts=scripts)
                self.call_at_once(callout, module)
        self._sessions.pop(scripts.session, None)

    async def call(self, callout: Callout, module: _Module, *arguments: Any, deadline: float = inf) -> Any:
        """Run a callout of a module and return its result.

        :raises Failure: if it fails or exceeds a limit.
        :raises trio.TooSlowError: if it still waits at ``deadline``, on Trio's clock.
        """
        scripts = callout.scripts
        assert scripts is not None, "a callout is about a session"
        callout.module, callout.put_off = module.name, 0
        scripts.called.add(module.number)
        state: LuaState = scripts.state
        try:
            method, command = callout.method.encode(), callout.command
            if command:
                function, arguments = state.call_command, (method, command, *arguments)
            else:
                function, arguments = state.call_module, (method, *arguments)
            result = await state.run(
                callout, function, scripts.table, module.number, *arguments, tls=scripts.tls, deadline=deadline
            )
            while callout.after:
                if deadline < inf:  # it may wait: each has limits of its own, so let the other sessions go on
                    with trio.fail_at(deadline):
                        await trio.lowlevel.checkpoint()
                await state.run(callout, callout.after.pop(0), tls=scripts.tls, deadline=deadline)
            return result
        except Failure:
            if state.is_full():
                await self._restart(state)
            raise
        finally:
            callout.close()

    async def run(self, callout: Callout, function: LuaFunction, *arguments: Any) -> Any:
        """Run a function of a script, such as a command of the console, and return its result.

        :raises Failure: if it fails or exceeds a limit.
        """
        try:
            return await self._state.run(callout, function, *arguments)
        finally:
            callout.close()

    async def call_field(self, callout: Callout, table: LuaTable, name: str, *arguments: Any) -> Any:
        """Run a function of a table that a script has registered, as a method, and return its result.

        :raises Failure: if there is none, if it fails, or if it exceeds a limit.
        """
        return await self.run(callout, self._state.scripts.call_field, table, name, *arguments)

    def call_at_once(self, callout: Callout, module: _Module) -> None:
        """Run a callout that must not wait; an error is logged."""
        coroutine = self.call(callout, module)
        try:
            coroutine.send(None)
        except StopIteration:
            return
        except Failure as error:
            self.log_failure(callout, error)
        else:
            _log.error("script %s: %s must not wait", module.name, callout.method)
        finally:
            coroutine.close()

    # Logs

    def log(self, level: int, text: bytes) -> None:
        """Log a line of a script, with the script and its session."""
        callout = self._running()
        if callout is not None and not callout.may_log():
            return
        line = text[:_MAX_LINE].decode("utf-8", "replace")
        line = _CONTROL.sub("?", line) + ("…" if len(text) > _MAX_LINE else "")
        session = None if callout is None else callout.session
        about = "" if session is None else f", session {session.id}"
        _log.log(level, "script %s%s: %s", "" if callout is None else callout.module, about, line)

    def _running(self) -> Callout | None:
        """Return the callout that runs now."""
        former = None if self._former is None else self._former.calls.current
        current: Callout | None = self._state.calls.current or former
        return current

    def _print(self, text: bytes) -> None:
        callout = self._running()
        if callout is None or not callout.printed(text):
            self.log(logging.INFO, b"scriptlet: " + text)

    def log_failure(self, callout: Callout, error: Failure) -> None:
        """Log an error of a script with its traceback."""
        session = callout.session
        about = "" if session is None else f", session {session.id}"
        text = _CONTROL.sub("?", error.text[:_MAX_LINE])
        trace = error.traceback[: 4 * _MAX_LINE].strip("\n")
        _log.error("script %s%s: %s failed: %s\n%s", callout.module, about, callout.method, text, trace)

    def warn_once(self, text: str) -> None:
        """Log a warning, once in the life of the set."""
        self._warn_once(text)

    def _warn_once(self, text: str) -> None:
        if text not in self._warned and len(self._warned) < 1000:
            self._warned.add(text)
            self._warn(self._loading, text)

    def _warn(self, script: ScriptSource | None, text: str) -> None:
        if self.is_loaded:
            _log.warning("%s", text)
        else:
            self.warnings.append((script, text))
