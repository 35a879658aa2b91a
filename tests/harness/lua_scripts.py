"""A Lua state for tests of host functions: a chunk at a time."""

from typing import Any

from triosmtp.lua.host import HostTable, ScriptError
from triosmtp.lua.state import LuaLimits, LuaState
from triosmtp.lua.translate import translate


class Script:
    """A state with the functions of ``tables``; ``printed`` has what scripts printed."""

    def __init__(self, *tables: HostTable, memory: int = 16 << 20, instructions: int = 1_000_000) -> None:
        self.printed: list[bytes] = []
        self.modules: dict[bytes, bytes] = {}
        self.state = LuaState(
            tables,
            limits=LuaLimits(memory=memory, instructions=instructions),
            translate=translate,
            find_module=self._find,
            output=self.printed.append,
        )

    def _find(self, name: bytes) -> tuple[bytes, bytes]:
        if name not in self.modules:
            raise ScriptError(f"module '{name.decode()}' not found")
        return translate(self.modules[name], b"@" + name + b".lua"), b"@" + name + b".lua"

    async def run(self, text: bytes, *arguments: Any, current: Any = None) -> Any:
        """Run a chunk and return its first result."""
        return await self.state.run(
            current, self.state.compile(translate(text, b"@script.lua"), b"@script.lua"), *arguments
        )

    def collect(self) -> None:
        """Run Lua's collector."""
        self.state._lua.gccollect()
