"""A Lua state and its limits."""

import random
from contextlib import suppress

import pytest
import trio
from lua_scripts import Script

from triosmtp.lua.host import HostObject, HostTable, ScriptError
from triosmtp.lua.state import Failure


@pytest.mark.parametrize(
    "loop",
    [
        b"while true do end",
        b"while true do pcall(function() while true do end end) end",
        b"while true do xpcall(function() while true do end end, function() while true do end end) end",
        b"local co = coroutine.wrap(function() while true do end end) while true do pcall(co) end",
        b"while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
        b"local t = setmetatable({}, { __index = function() while 1 do end end }) while true do pcall(next, t[1]) end",
        b"local function f() return f() end return f()",
        b"for i = 1, math.huge do end",
    ],
)
async def test_an_endless_loop_is_cut_off(loop: bytes) -> None:
    script = Script()
    with pytest.raises(Failure, match="too many instructions") as failed:
        await script.run(loop)
    assert failed.value.limit
    assert "script.lua:1:" in failed.value.traceback
    assert await script.run(b"return 1") == 1


async def test_each_callout_has_all_instructions() -> None:
    script = Script(instructions=100_000)
    loop = b"for i = 1, 20000 do local x = i end"
    for _ in range(20):
        await script.run(loop)


@pytest.mark.parametrize(
    "text",
    [
        b"local t = {} for i = 1, 1e9 do t[i] = i .. 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' end",
        b"local s = 'x' while true do s = s .. s end",
        b"kept = {} for i = 1, 1e9 do kept[i] = i .. 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' end",
        b"kept = 'x' while true do kept = kept .. kept end",
        b"kept = {} for i = 1, 1e9 do pcall(function() kept[i] = i .. 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' end) end",
        b"kept = {} local s = ('x'):rep(2e6) for i = 1, 1e9 do pcall(function() kept[i] = s .. i end) end",
    ],
)
async def test_memory_is_limited(text: bytes) -> None:
    script = Script(memory=8 << 20, instructions=100_000_000)
    with pytest.raises(Failure, match="not enough memory"):
        await script.run(text)
    if b"kept" not in text:
        assert await script.run(b"return 1") == 1


async def test_deep_recursion_is_an_error_that_a_script_may_catch() -> None:
    script = Script()
    with pytest.raises(Failure, match="stack overflow") as failed:
        await script.run(b"local function f() return 1 + f() end return f()")
    assert not failed.value.limit
    assert await script.run(b"local function f() return 1 + f() end return (pcall(f))") is False


async def test_a_script_cannot_yield_to_the_host() -> None:
    script = Script()
    with pytest.raises(Failure, match="attempt to yield from outside a coroutine"):
        await script.run(b"coroutine.yield(1)")
    assert await script.run(b"return coroutine.running()") is None


@pytest.mark.parametrize(
    "name",
    [
        "python", "jit", "ffi", "bit", "newproxy", "package.loadlib", "package.loaders", "debug.getregistry",
        "debug.sethook", "debug.getupvalue", "debug.setmetatable", "debug.getinfo", "package.loaded.ffi",
        "package.loaded.jit", "package.loaded.python",
    ],
)  # fmt: skip
async def test_what_reaches_out_is_not_there(name: str) -> None:
    assert await Script().run(f"return {name}".encode()) is None


@pytest.mark.parametrize("name", ["os.execute", "os.exit", "os.remove", "io.open", "io.popen", "dofile", "loadfile"])
async def test_what_reaches_files_is_an_error(name: str) -> None:
    with pytest.raises(Failure, match=rf"script.lua:1: {name} is not available to scripts"):
        await Script().run(f"local x = {name}('a')".encode())


async def test_no_environment_leads_out_of_the_sandbox() -> None:
    script = Script()
    text = b"for _, f in ipairs { print, pcall, require, getfenv, string.format, 0, 1 } do assert(getfenv(f) == _G) end"
    await script.run(text)


@pytest.mark.parametrize("name", ["ffi", "jit", "python", "os", "jit.util", "table.new"])
async def test_nothing_of_the_runtime_can_be_required(name: str) -> None:
    with pytest.raises(Failure, match="not found"):
        await Script().run(f"return require '{name}'".encode())


@pytest.mark.parametrize("function", [b"error('undeclared ' .. name)", b"while true do end"])
async def test_a_metatable_of_the_globals_does_not_run_between_callouts(function: bytes) -> None:
    script = Script()
    await script.run(b"setmetatable(_G, { __newindex = function(_, name) " + function + b" end })")
    assert await script.run(b"return 1") == 1
    with pytest.raises(Failure, match=r"undeclared x|too many instructions"):
        await script.run(b"x = 1")


async def test_modules_are_loaded_once() -> None:
    script = Script()
    script.modules[b"a.b"] = b"count = (count or 0) + 1 return { name = ... }"
    await script.run(b"assert(require('a.b').name == 'a.b' and require('a/b') == require('a.b') and count == 1)")


async def test_a_module_may_make_its_own_globals() -> None:
    script = Script()
    script.modules[b"policy.x"] = b"module('policy.x', package.seeall) function f() return tostring(5) end value = 3"
    await script.run(b"require 'policy.x' assert(policy.x.f() == '5' and policy.x.value == 3 and value == nil)")


async def test_a_loop_of_modules_is_an_error() -> None:
    script = Script()
    script.modules[b"a"] = b"require 'b'"
    script.modules[b"b"] = b"require 'a'"
    with pytest.raises(Failure, match="loop or previous error loading module 'a'"):
        await script.run(b"require 'a'")


async def test_what_scripts_print_is_handed_out() -> None:
    script = Script()
    await script.run(b"print('a', 1, nil, true) debug.output('b')")
    assert script.printed == [b"a\t1\tnil\ttrue", b"b"]


def test_a_syntax_error_names_file_and_line() -> None:
    with pytest.raises(ScriptError, match=r"script.lua:2: '=' expected near 'y'"):
        Script().state.compile(b"\nx y", b"@script.lua")


async def test_an_error_without_text_is_described() -> None:
    with pytest.raises(Failure, match="error object is a table value"):
        await Script().run(b"error({})")


FILLS = (
    "for i = 1, 1e7 do kept[#kept + 1] = ('x'):rep({}) .. i end",
    "for i = 1, 1e7 do kept[#kept + 1] = {{ {} }} end",
    "for i = 1, 1e7 do kept[i + {}] = i end",
    "for i = 1, 1e7 do kept[#kept + 1] = coroutine.create(function() return {} end) end",
    "kept = tostring({}) for i = 1, 40 do kept = kept .. kept .. i end",
    "for i = 1, 1e7 do kept[#kept + 1] = msys.new() if i % 7 == {} then msys.list(50) end end",
    "for i = 1, 1e7 do kept[#kept + 1] = msys.large({} + i % 9000) end",
)
CALLS = (
    "msys.new()", "msys.list(100)", "msys.large(5000)", "msys.wait()", "msys.fail()", "msys.take({ 1, 2 })",
    "error({})", "print(('p'):rep(1000))", "coroutine.wrap(function() msys.wait() end)()", "loadstring('return 1')()",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
async def test_full_memory_never_ends_the_process(seed: int) -> None:
    chosen = random.Random(seed)
    table = HostTable()
    table.function("msys.new")(lambda _: HostObject())
    table.function("msys.list", "i")(lambda _, size: [b"x" * 10] * size)
    table.function("msys.large", "i")(lambda _, size: b"x" * size)
    table.function("msys.take", "t")(lambda _, given: list(given.items())[:3])

    @table.function("msys.wait", waits=True)
    async def wait(_callout: object) -> bytes:
        await trio.lowlevel.checkpoint()
        return b"y" * 1000

    @table.function("msys.fail")
    def fail(_callout: object) -> None:
        raise ScriptError("e" * 1000)

    script = Script(table, memory=4 << 20, instructions=10_000_000)
    for _ in range(4):
        fill = chosen.choice(FILLS).format(chosen.choice((1, 3, 100, 1000)))
        calls = " ".join(f"pcall(function() {call} end)" for call in chosen.sample(CALLS, 4))
        with suppress(Failure, ScriptError):
            await script.run(f"kept = kept or {{}} pcall(function() {fill} end) for i = 1, 50 do {calls} end".encode())
    with suppress(Failure, ScriptError):
        await script.run(b"kept = nil")
