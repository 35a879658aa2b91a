"""No argument of a script is an error of the host: it is an error of the script, or it has a result."""

import logging
import random
from pathlib import Path

import pytest
from lua_scripts import Script
from script_callout import CalloutStub, EngineStub, callout_with_message

from triosmtp.lua.api import TABLES
from triosmtp.lua.api.resources import Resources
from triosmtp.lua.callout import Ac, Msg, Response, Vctx
from triosmtp.lua.host import HostFunction
from triosmtp.message import Recipient
from triosmtp.smtp import Address

VALUES = (
    "nil", "true", "false", "0", "1", "2", "-1", "0.5", "1e308", "-1e308", "0/0", "1/0", "2^53", "''", "'x'", "'1'",
    "'\\0\\255'", "'a@b'", "'10.0.0.1'", "'/24'", "'60,1'", "('x'):rep(5000)", "'%{i}'", "'(a'", "{}", "{ 1, 2 }",
    "{ key = {} }", "{ cidr = 'x', startv = 'y' }", "{ type = 'empty' }", "function() end", "msg", "vctx", "ac",
    "part", "mutex", "response", "c", "string.rep", "'\\237\\160\\128'",
)  # fmt: skip
WAITING = {"msys.dnsLookup", "msys.sleep", "msys.lock", "mutex:lock"}  # they would wait for others


def call_of(function: HostFunction, arguments: list[str]) -> str:
    """Return the call of a function in Lua; a method is called on its object."""
    objects = {"mime_part": "part", "counter": "c", "ec_string": "str", "http_client": "web"}
    if function.field == "get":
        owner, _, name = function.name.partition(".")
        return f"return {objects.get(owner, owner)}.{name}"
    owner, colon, name = function.name.partition(":")
    if colon:
        return f"return {objects.get(owner, owner)}:{name}({', '.join(arguments)})"
    return f"return {function.name}({', '.join(arguments)})"


CHUNK = """
local msg, vctx, ac, response = ...
local part, mutex, c = msg:mime(true), thread.mutex(), counter.open("c")
local str, web = msys.core.string_new(), {web}
local ok, text = pcall(function() {call} end)
if not ok and tostring(text):find("internal error", 1, true) then error(text, 0) end
"""


def functions() -> list[HostFunction]:
    found = [each for table in TABLES for each in table.functions if each.field != "set" and each.state != "out"]
    return [each for each in found if each.name not in WAITING and "._" not in each.name and "control" not in each.name]


def callout(folder: Path, phase: int) -> CalloutStub:
    engine = EngineStub(Resources(folders=(folder,)))
    if phase == 0:
        return callout_with_message(engine=engine)
    if phase == 1:
        found = callout_with_message(engine=engine, phase="ehlo", method="validate_ehlo", message=None)
        assert found.session is not None
        found.session.peer, found.session.peer_address = "unix", None
        return found
    found = callout_with_message(engine=engine, method="validate_data_spool_each_rcpt")
    assert found.message is not None
    found.message.envelope.recipients[0] = found.recipient = Recipient(Address("a", "example.com"), {})
    return found


@pytest.mark.parametrize("function", functions(), ids=lambda function: function.name)
async def test_odd_arguments_are_no_error_of_the_host(
    function: HostFunction, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = random.Random(function.name)
    script = Script(*TABLES)
    count = len(function.parameters)
    tries = 1 if function.field or not count else 12
    for number in range(tries):
        arguments = [chosen.choice(VALUES) for _ in range(count)]
        if count == 1:
            arguments = [VALUES[(3 * number + len(function.name)) % len(VALUES)]]
        current = callout(tmp_path, number % 3)
        web = "http.client.new()" if function.name.startswith("http_client") else "nil"
        body = CHUNK.format(call=call_of(function, arguments), web=web)
        if current.message is None:
            body = body.replace("msg:mime(true)", "nil")
        await script.run(body.encode(), Msg(), Vctx(), Ac(), Response(), current=current)
        await current.engine.resources.aclose()
        for at_end in current.at_end:
            at_end()
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []
