"""Host functions and objects, called from Lua."""

import gc
import logging
import weakref
from typing import Any

import pytest
import trio
from lua_scripts import Script

from triosmtp.lua.host import HostObject, HostTable, LuaTable, ScriptError
from triosmtp.lua.state import Failure

TABLE = HostTable()


class Box(HostObject):
    """An object with a value."""

    lua_class = "box"

    def __init__(self, value: Any = None) -> None:
        self.value = value


class Bag(HostObject):
    """An object of another class."""

    lua_class = "bag"


@TABLE.function("box:get")
def get(_callout: object, box: Box) -> object:
    return box.value


@TABLE.function("bag:get")
def get_of_bag(_callout: object, _bag: Bag) -> object:
    return None


@TABLE.getter("box.value")
def value_of(_callout: object, box: Box) -> object:
    return box.value


@TABLE.setter("box.value")
def set_value(_callout: object, box: Box, value: object) -> None:
    box.value = value


@TABLE.function("msys.new", "a")
def new(_callout: object, value: object) -> Box:
    return Box(value)


@TABLE.function("msys.bag")
def new_bag(_callout: object) -> Bag:
    return Bag()


@TABLE.function("msys.same", "o")
def same(_callout: object, value: object) -> object:
    return value


@TABLE.function("msys.values")
def values(_callout: object) -> object:
    return None, "täxt", b"\xff", 1, 2.5, [1, [2]], {"a": True, 0: ""}


@TABLE.function("msys.first", "t")
def first(_callout: object, table: LuaTable) -> object:
    return table[1]


@TABLE.function("msys.callout")
def callout_of(callout: object) -> object:
    return callout


@TABLE.function("msys.refuse", "s")
def refuse(_callout: object, text: bytes) -> None:
    raise ScriptError(text.decode())


@TABLE.function("msys.broken")
def broken(_callout: object) -> None:
    raise KeyError("secret")


@TABLE.function("msys.wait", "n", waits=True)
async def wait(_callout: object, number: float) -> object:
    await trio.lowlevel.checkpoint()
    if number < 0:
        raise ScriptError("no negative waits")
    return number, "waited"


@TABLE.function("msys.large", "i")
def large(_callout: object, size: int) -> bytes:
    return b"x" * size


TABLE.constant("msys.core.FIVE", 5)
TABLE.out("msys.db.query")


async def test_values_reach_lua() -> None:
    script = Script(TABLE)
    await script.run(b"""
        local n, t, b, i, f, list, map = msys.values()
        assert(n == nil and t == "t\\195\\164xt" and b == "\\255" and i == 1 and f == 2.5)
        assert(list[1] == 1 and list[2][1] == 2 and #list == 2)
        assert(map.a == true and map[0] == "")
        assert(msys.core.FIVE == 5)
    """)


async def test_objects_have_methods_and_fields() -> None:
    box = Box(b"x")
    await Script(TABLE).run(
        b"""
        local box = ...
        assert(box:get() == "x" and box.value == "x" and box.other == nil)
        box.value = 7
        assert(box:get() == 7 and type(box) == "userdata" and tostring(box) == "box")
        assert(msys.same(box) == box and msys.new(1) ~= msys.new(1))
        """,
        box,
    )
    assert box.value == 7


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"box.other = 1", "box has no field 'other' that can be set"),
        (b"box.get(1)", "bad self of 'get' (box expected, got number)"),
        (b"box.get(msys.bag())", "bad self of 'get' (box expected, got userdata)"),
        (b"box.get()", "bad self of 'get' (box expected, got nil)"),
        (b"box.get({})", "bad self of 'get' (box expected, got table)"),
        (b"setmetatable(box, {})", "table expected"),
        (b"getmetatable(box).__index = 1", "attempt to index"),
        (b"msys.same(1)", "bad argument #1 to 'same' (object expected, got number)"),
    ],
)
async def test_objects_cannot_be_forged_or_changed(line: bytes, text: str) -> None:
    with pytest.raises(Failure) as failed:
        await Script(TABLE).run(b"local box = ... \n" + line, Box())
    assert text in str(failed.value)
    assert str(failed.value).startswith(("script.lua:2: ", "bad argument"))


async def test_an_object_is_released_when_no_script_refers_to_it() -> None:
    script = Script(TABLE)
    box = Box()
    seen = weakref.ref(box)
    await script.run(b"kept = ...", box)
    del box
    gc.collect()
    assert seen() is not None
    await script.run(b"kept = nil")
    script.collect()
    script.state.calls.drain()
    gc.collect()
    assert seen() is None


async def test_an_error_of_the_host_is_one_of_the_script() -> None:
    script = Script(TABLE)
    assert await script.run(b"local ok, e = pcall(msys.refuse, 'no') return e") == b"no"
    with pytest.raises(Failure) as failed:
        await script.run(b"\n\nlocal x = msys.refuse('not so')")
    assert failed.value.text == "script.lua:3: not so"
    assert "script.lua:3: in" in failed.value.traceback


async def test_an_exception_is_logged_and_tells_scripts_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(Failure, match=r"script.lua:1: internal error in msys.broken"):
        await Script(TABLE).run(b"local x = msys.broken()")
    assert "KeyError('secret')" in caplog.text


@pytest.mark.parametrize(
    ("body", "text"),
    [("error('not here')", "script.lua:1: script.lua:1: not here"), ("while true do end", "too many instructions")],
)
async def test_an_error_of_a_metamethod_is_one_of_the_script(
    body: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = f"local x = msys.first(setmetatable({{}}, {{ __index = function() {body} end }}))"
    with pytest.raises(Failure) as failed:
        await Script(TABLE).run(source.encode())
    assert failed.value.text == text
    assert not caplog.text


async def test_what_is_out_is_an_error_when_it_is_called() -> None:
    script = Script(TABLE)
    await script.run(b"local query = msys.db.query")
    with pytest.raises(Failure, match=r"script.lua:1: triosmtp does not have msys.db.query"):
        await script.run(b"local x = msys.db.query('a', 2)")


async def test_a_function_may_wait_anywhere() -> None:
    script = Script(TABLE)
    await script.run(b"""
        local n, t = msys.wait(3)
        assert(n == 3 and t == "waited")
        local ok, e = pcall(msys.wait, -1)
        assert(not ok and e == "no negative waits")
        local co = coroutine.wrap(function(a)
          local b = coroutine.yield((msys.wait(a)))
          return pcall(function() return (msys.wait(b)) end)
        end)
        assert(co(1) == 1)
        local ok, last = co(2)
        assert(ok and last == 2)
        local t = setmetatable({}, { __index = function(_, k) return (msys.wait(k)) end })
        assert(t[5] == 5)
    """)


async def test_each_callout_has_its_own_context_over_its_waits() -> None:
    script = Script(TABLE)
    found: list[object] = []

    async def run(name: bytes) -> None:
        found.append(
            await script.run(
                b"local before = msys.callout() msys.wait(1) return before .. msys.callout()", current=name
            )
        )

    async with trio.open_nursery() as nursery:
        for name in (b"a", b"b", b"c"):
            nursery.start_soon(run, name)
    assert sorted(found) == [b"aa", b"bb", b"cc"]  # type: ignore[type-var]


async def test_a_cancelled_wait_leaves_the_state_in_order() -> None:
    script = Script(TABLE)
    with trio.CancelScope() as scope:
        scope.cancel()
        await script.run(b"msys.wait(1)")
    assert scope.cancelled_caught
    assert await script.run(b"return 1") == 1


async def test_a_result_beyond_the_memory_is_an_error() -> None:
    script = Script(TABLE, memory=8 << 20)
    assert await script.run(b"return #msys.large(1000000)") == 1000000
    with pytest.raises(Failure, match="not enough memory"):
        await script.run(b"return #msys.large(9000000)")
