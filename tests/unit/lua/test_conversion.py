"""Values on their way between Lua and Python."""

import re

import pytest

from triosmtp.lua.conversion import checked, lua_dict, lua_list, text_of
from triosmtp.lua.host import HostTable, ScriptError
from triosmtp.lua.host_calls import new_runtime


def arguments(parameters: str, *values: object) -> list[object]:
    table = HostTable()
    table.function("vctx:get", parameters)(lambda: None)
    return list(checked(table.functions[0], values))


@pytest.mark.parametrize(
    ("parameters", "given", "got"),
    [
        ("s", (b"a",), [b"a"]),
        ("s", (5,), [b"5"]),
        ("s", (1.5,), [b"1.5"]),
        ("n", (b" 0x10 ",), None),
        ("n", (b" 10 ",), [10.0]),
        ("i", (2.9,), [2]),
        ("b", (), [None]),
        ("b", (0,), [True]),
        ("b", (False,), [False]),
        ("a", (), [None]),
        ("s?i?", (), [None, None]),
        ("s", (b"a", b"too much"), [b"a"]),
        ("s*", (b"a", 2, None), [b"a", 2, None]),
        ("s", (), None),
        ("s", (True,), None),
        ("i", (float("nan"),), None),
        ("i", (float("inf"),), None),
        ("n", (b"x",), None),
        ("t", (b"x",), None),
        ("f", (1,), None),
    ],
)
def test_arguments_are_converted_as_lua_does(parameters: str, given: tuple[object, ...], got: object) -> None:
    if got is None:
        with pytest.raises(ScriptError, match="bad argument #1 to 'get'"):
            arguments(parameters, *given)
    else:
        assert arguments(parameters, *given) == got


def test_an_error_names_position_kind_and_what_it_got() -> None:
    with pytest.raises(ScriptError, match=re.escape("bad argument #2 to 'get' (string expected, got nil)")):
        arguments("is", 1)


@pytest.mark.parametrize(
    ("value", "text"),
    [(b"x", b"x"), (5, b"5"), (-5, b"-5"), (0.1, b"0.1"), (1e20, b"1e+20"), (10**17, b"1e+17"), (True, b"true")],
)
def test_numbers_have_the_text_of_lua(value: object, text: bytes) -> None:
    assert text_of(value) == text
    lua = new_runtime(1 << 20)
    assert lua.eval(b"tostring")(value) == text


def test_what_has_no_text_is_an_error() -> None:
    with pytest.raises(ScriptError, match="not a nil value"):
        text_of(None)


def test_tables_are_read_within_a_bound() -> None:
    lua = new_runtime(1 << 20)
    assert lua_list(lua.eval(b"{1, 'b', nil, 4}")) == [1, b"b"]
    assert lua_dict(lua.eval(b"{a = 1, [5] = true}")) == {b"a": 1, 5: True}
    with pytest.raises(ScriptError, match="more than 2"):
        lua_list(lua.eval(b"{1, 2, 3}"), 2)
    with pytest.raises(ScriptError, match="more than 2"):
        lua_dict(lua.eval(b"{a = 1, b = 2, c = 3}"), 2)
