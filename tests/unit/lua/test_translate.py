"""Momentum's dialect, translated and run: every operator, escape and form of a number, in every position."""

# ruff: noqa: E501 - lines of Lua

import pytest
from lua_scripts import Script

from triosmtp.lua.host import HostTable, ScriptError
from triosmtp.lua.lexer import LuaSyntaxError
from triosmtp.lua.state import Failure
from triosmtp.lua.translate import translate

VALUES = {
    # The added operators, with the values of C on 64 bits.
    "6 & 3": 2, "6 | 3": 7, "6 ^^ 3": 5, "1 << 4": 16, "256 >> 4": 16, "~0": -1, "~5": -6, "7 \\ 2": 3,
    "-7 \\ 2": -4, "7.9 & 3": 3, "-1 & 255": 255, "-8 >> 1": -4, "1 << 40": 1 << 40, "1 << 63": -(1 << 63),
    "1 << 64": 1, "(1 << 40) >> 38": 4, "0xFFFFFFFF & 0xFF00FF00": 0xFF00FF00, "(1 << 40 | 5) & ((1 << 40) + 4)": (1 << 40) + 4,
    "0x100000000 ^^ 0x100000001": 1, "-1 ^^ 0": -1, "~0x100000000": -0x100000001, "'6' & '3'": 2, "~'5'": -6,
    "7.5 \\ 0.5": 15, "-4294967297 | 1": -4294967297,
    # Precedence: & | ^^ as +, << >> \\ as *, the unary ones as not.
    "1 + 2 & 3": 3, "2 & 3 + 1": 3, "1 | 2 ^^ 3": 0, "1 | 2 * 4": 9, "2 * 3 << 1": 12, "1 << 2 * 3": 12, "8 \\ 3 * 2": 4,
    "7 & 3 == 3": True, "1 .. 2 | 1": b"13", "2 ^ 3 & 12": 8, "~1 ^ 2": -2, "-2 ^ 2": -4, "- ~1": 2, "~-1": 0, "#'abc' & 1": 1,
    "1 & 3 & 1": 1, "64 >> 2 >> 1": 8, "2 ^ -1 * 4": 2, "(1 | 2) * 3": 9, "not 1 & 1 == 1": None,
    "1 < 2 | 0": True, "nil or 6 & 3": 2, "false and 1 & 1 or 4 | 1": 5,
    # ! and !=.
    "1 != 2": True, "1 != 1": False, "!true": False, "!nil": True, "!!1": True, "!(1 == 2)": True, "!nil and 5": 5,
    "1+1!=2": False, "!1==1": False, "'a'!='b'": True,
    # Numbers.
    "0660": 432, "0": 0, "00": 0, "010": 8, "0x1F": 31, "0Xff": 255, "0.5": 0.5, ".5": 0.5, "3.": 3, "1e3": 1000,
    "1E+2": 100, "1e-2": 0.01, "-010": -8, "010 + 1": 9, "010 ..''": b"8", "{010}[1]": None, "0xFFFFFFFFFFFFFFFFF": 2.0**63,
    # Escapes.
    r'"\x41\x7a"': b"Az", r'"\xff"': b"\xff", r'"\u0041"': b"A", r'"\u00e9"': "é".encode(), r'"\u20ac"': "€".encode(),
    r'"\u01F600"': "😀".encode(), r'"\u0001F600"': "😀".encode(), r'"\."': b".", r'"[\-]"': b"[-]", r"'\d+\.\w'": b"d+.w",
    r'"\065\10x"': b"A\nx", r'"\a\b\f\n\r\t\v\\\"\'"': b"\a\b\f\n\r\t\v\\\"'", r'"\z\q\U"': b"zqU", r'"\x411"': b"A1",
    r'"\u00411"': None, r'"a\0b"': b"a\0b", '"a\\\nb"': b"a\nb", r"[[\x41\.]]": rb"\x41\.", r"[==[ ]] \q ]==]": rb" ]] \q ",
}  # fmt: skip
REFUSED = {"not 1 & 1 == 1", "{010}[1]", r'"\u00411"'}

POSITIONS = {
    "return": "return {}",
    "local": "local x = {} return x",
    "assignment": "x = {} local y = 1 return x",
    "two statements": "local a, b = 1, {} local c = a return b",
    "argument": "local function f(...) return ... end return f({})",
    "method": "local o = {{}} function o:f(v) return v end return o:f({})",
    "list": "local t = {{ 1, {}; 3 }} return t[2]",
    "field": "local t = {{ a = {} }} return t.a",
    "key": "local t = {{ [1] = {} }} return t[1]",
    "parentheses": "return (({}))",
    "function": "return (function() return {} end)()",
    "nested": "for i = 1, 2 do repeat local v = {} if i == 2 then return v end until v == nil or true end",
    "before a call": "local r = {} local f = (print or print) return r",
    "comment": "return --[[ a & b ]] {} -- c != d\n",
}


@pytest.fixture(scope="module")
def script() -> Script:
    return Script()


@pytest.mark.parametrize("position", POSITIONS)
async def test_every_form_in_every_position(script: Script, position: str) -> None:
    wrong = []
    for source, value in VALUES.items():
        if source in REFUSED:
            continue
        got = await script.run(POSITIONS[position].format(source).encode())
        if got != value or isinstance(got, bool) is not isinstance(value, bool):
            wrong.append((source, got, value))
    assert wrong == []


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("if 6 & 3 then return 1 end", 1),
        ("if !nil then return 1 elseif 1 then return 2 end", 1),
        ("if nil then elseif 1 != 2 then return 2 end", 2),
        ("while 1 & 1 do return 3 end", 3),
        ("for i = 1 | 2, 4 & 5, 1 << 0 do return i end", 3),
        ("local n = 0 repeat n = n + 1 until n & 4 != 0 return n", 4),
        ("local t = {5} return t[1 & 1]", 5),
        ("local t = {a = 1} t.a = t.a | 6 return t.a", 7),
        ("local a = 6 & 3\n(function() end)() return a", None),
        ("local function f() return 6 end return f() & f() | f{} ^^ f''", 0),
        ("local t = {f = function() return 6 end} return t.f() & t:f() & t['f'](1)", 6),
        ("local t = {} & {}", None),
        ("local s = {} function s.g() return ~0 end return s.g()", -1),
        ("return ('x'):rep(1 | 2)", b"xxx"),
        ("local continue, goto = 1, 2 return continue | goto", 3),
        ("return (function(...) return ... & 1 end)(7, 8)", 1),
        ("local function two() return 6, 7 end return 3 & two()", 2),
    ],
)
async def test_operands_end_where_the_expression_ends(script: Script, source: str, value: object) -> None:
    if value is None:
        with pytest.raises((Failure, ScriptError)):
            await script.run(source.encode())
    else:
        assert await script.run(source.encode()) == value


async def test_metatables_may_have_the_operators(script: Script) -> None:
    await script.run(rb"""
        local names, meta = { "and", "or", "xor", "shl", "shr", "intdiv" }, {}
        for _, name in ipairs(names) do meta["__" .. name] = function(a, b) return name .. tostring(a == meta.it) .. tostring(b == 1) end end
        meta.__not = function(a) return "not" end
        local t = setmetatable({}, meta)
        meta.it = t
        assert((t & 1) == "andtruetrue" and (t | 1) == "ortruetrue" and (t ^^ 1) == "xortruetrue")
        assert((t << 1) == "shltruetrue" and (t >> 1) == "shrtruetrue" and (t \ 1) == "intdivtruetrue" and ~t == "not")
        assert((2 & t) == "andfalsefalse" and ("x" | t) == "orfalsefalse")
    """)


async def test_a_loop_may_be_over_an_object(script: Script) -> None:
    await script.run(b"""
        local t = setmetatable({ 3, 4 }, { __iter = ipairs })
        local sum = 0
        for i, v in t do sum = sum + i * v end
        assert(sum == 11)
        for k, v in pairs({ a = 1 }) do assert(k == "a" and v == 1) end
        for k in next, { b = 1 } do assert(k == "b") end
        local function three() local n = 0 return function() n = n + 1 if n < 4 then return n & 3 end end end
        local last
        for n in three() do last = n end
        assert(last == 3)
        for i, v in (t) do sum = sum - v end
        assert(sum == 4)
    """)


@pytest.mark.parametrize("operator", ["&", "|", "^^", "<<", ">>"])
@pytest.mark.parametrize(("operand", "name"), [("nil", "nil"), ("{}", "table"), ("'x'", "string"), ("true", "boolean")])
async def test_a_wrong_operand_is_an_error_at_its_line(script: Script, operator: str, operand: str, name: str) -> None:
    text = rf"^script.lua:2: attempt to perform bitwise arithmetic on a {name} value$"
    for source in (f"\nlocal v = {operand} {operator} 1", f"\nlocal v = 1 {operator} {operand}"):
        with pytest.raises(Failure, match=text):
            await script.run(source.encode())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 08", "1: malformed number near '08'"),
        ("\nx = 0x", "2: malformed number near '0x'"),
        ("x = 1LL", "1: malformed number near '1LL'"),
        ("x = 1i", "1: malformed number near '1i'"),
        ("x = 0b1", "1: malformed number near '0b1'"),
        ("x = 1.2.3", "1: malformed number near '1.2.3'"),
        ("x = 0e1", "1: malformed number near '0e1'"),
        ("x = 5 &", "1: unexpected symbol near '<eof>'"),
        ("x = & 5", "1: unexpected symbol near '&'"),
        ("x = (5 |) + 1", "1: unexpected symbol near ')'"),
        ("x = 1 && 2", "1: unexpected symbol near '&'"),
        ("\n\nx = a ! b", "3: unexpected symbol near '!'"),
        ("x != 5", None),
        ("x = 'a", "1: unfinished string near '<eof>'"),
        ("x = 'a\n'", "1: unfinished string near ''a'"),
        ("--\n--[[ \n x", "2: unfinished long comment near '<eof>'"),
        ("x = [=[ ]]", "1: unfinished long string near '<eof>'"),
        (r"x = '\x4'", None),
        (r"x = '\300'", "1: escape sequence too large near ''\\300'"),
        (r"x = '\u00'", None),
        ("x = (1 & 2", None),
        ("x = 1) & 2", "1: unexpected symbol near ')'"),
        ("x = 5 @ 6", "1: unexpected symbol near '@'"),
        ("do x = 1 until y", "1: unexpected symbol near 'until'"),
        ("x = 1 end", "1: unexpected symbol near 'end'"),
    ],
)
def test_an_error_names_file_line_and_token(source: str, message: str | None) -> None:
    with pytest.raises((LuaSyntaxError, ScriptError)) as failed:
        Script().state.compile(translate(source.encode(), b"@script.lua"), b"@script.lua")
    assert str(failed.value).startswith("script.lua:")
    if message is not None:
        assert str(failed.value) == f"script.lua:{message}"


def test_lines_are_kept() -> None:
    source = b"a = [[\n\n]] & 2 -- x\r\n--[==[\n]==] b = 'x\\\ny'\n\n\nfor x in\ny do end"
    written = translate(source, b"@script.lua")
    assert written.count(b"\n") == source.count(b"\n")
    assert [line.strip()[:1] for line in written.split(b"\n")][-1] == b"y"


def test_what_is_stock_lua_stays_as_it_is() -> None:
    source = b"local a = {1, [2]=3; x='\\n'} -- c\nfor k, v in pairs(a) do print(#a, -k ^ 2 .. 'x', not v) end\nreturn a.x:f 'y'\n"
    assert translate(source, b"@script.lua") == source


def test_deep_nesting_is_no_matter_of_pythons_stack() -> None:
    source = b"x = " + b"(" * 20000 + b"1 & 2" + b")" * 20000
    assert translate(source, b"@script.lua").count(b"(") == 20000 + 3
    chain = b"x = " + b" .. ".join([b"1 & 2"] * 20000)
    assert translate(chain, b"@script.lua").count(b'["&"]') == 20000


async def test_loaded_text_is_translated_too(script: Script) -> None:
    assert await script.run(b"return loadstring('return 6 & 3')()") == 2
    assert (
        await script.run(b"return (select(2, loadstring('x = 08', '=chunk')))")
        == b"chunk:1: malformed number near '08'"
    )
    assert (
        await script.run(b"local n = 0 return load(function() n = n + 1 return ({'return ', '1 | 2'})[n] end)()") == 3
    )
    assert await script.run(rb"return (loadstring('\27LJ\2\10'))") is None


async def test_modules_of_a_table_of_constants() -> None:
    table = HostTable()
    table.constant("msys.core.A", 2)
    assert await Script(table).run(b"return msys.core.A | 1") == 3


@pytest.mark.parametrize("name", ["goto", "continue"])
@pytest.mark.parametrize(
    "text",
    [
        "local {} = 5 return {}", "{} = 5 return {}", "local t = {{ {} = 5 }} return t.{}", "function {}() return 5 end return {}()",
        "for {} = 5, 5 do return {} end", "local function f({}) return {} end return f(5)", "local t = {{}} t.{} = 5 return t.{}",
        "local t = {{}} function t:{}() return 5 end return t:{}()",
    ],
)  # fmt: skip
async def test_goto_and_continue_are_names(script: Script, name: str, text: str) -> None:
    assert await script.run(text.replace("{}", name).replace("{{", "{").replace("}}", "}").encode()) == 5


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("local function f(...) return arg.n, arg[1] end return (f(7, nil, 8))", 3),
        ("local function f(a, ...) return arg[2] end return f(7, 8, 9)", 9),
        ("local function f(...) local function g() return arg[1] end return g() end return f(5)", 5),
        (
            "local t = {} function t:f(...) for i = 1, arg.n do if arg[i] & 1 == 1 then return arg[i] end end end return t:f(2, 3)",
            3,
        ),
        ("local function f(...) local x = ... return arg end return f(5)", None),
        ("local function f(arg, ...) return arg end return f(5)", 5),
        ("local function f(...) local t = {} t.arg = 6 return t.arg end return f(5)", 6),
        ("local f = function(...) (print or print)() return arg.n end return f(1, 2)", 2),
        ("arg = 4 local function f() return arg end return f()", 4),
    ],
)
async def test_arg_is_what_it_was_in_lua_5_0(script: Script, text: str, value: object) -> None:
    assert await script.run(text.encode()) == value
