"""Filters of several kinds in one Policy, and the name that they have in common."""

import json
from pathlib import Path

import pytest
import trio
from filter_session import begun
from http_server import HTTPServer, Request, answer, http_server
from milter_program import CONTINUE, MilterProgram, milter_program, strings
from policyd_service import action, policyd_service

from triosmtp.config import load_config
from triosmtp.testing import open_memory_server

ONE = b"m\0\0\0\1" + strings("Subject", "one"), b"i\0\0\0\0" + strings("X-One", "1"), b"bbody one\r\n", CONTINUE
TWO = (
    b"m\0\0\0\1" + strings("Subject", "two"),
    b"h" + strings("X-Two", "2"),
    b"2" + strings("<more@example.com>", "NOTIFY=NEVER"),
    CONTINUE,
)
THREE = {
    "action": "rewrite subject",
    "subject": "three",
    "milter": {"add_headers": {"X-Three": {"value": "3", "order": 1}}, "remove_headers": {"X-Two": 0}},
}


class Recorder:
    """An rspamd that keeps what it was asked."""

    def __init__(self, said: object) -> None:
        self.requests: list[Request] = []
        self._answer = answer(json.dumps(said))

    async def __call__(self, server: HTTPServer, stream: trio.abc.Stream, request: Request) -> None:
        self.requests.append(request)
        await self._answer(server, stream, request)


def conf(milters: list[MilterProgram], others: str, scopes: str) -> str:
    words = " ".join(f'"{each.address}"' for each in milters)
    return f"""
        Relay_Domains = ( "example.com" )
        Policy = ( "filter:first" {words} {others} )
        {scopes}
        ESMTP_Listener {{ Listen ":25" {{ }} }}
    """


async def test_each_filter_sees_what_those_before_it_have_changed_and_nothing_of_another_message() -> None:
    rspamd = Recorder(THREE)
    with (
        milter_program(lambda code, _: ONE if code == "E" else (CONTINUE,)) as first,
        milter_program(lambda code, _: TWO if code == "E" else (CONTINUE,)) as second,
        policyd_service(action("PREPEND X-Zero: 0")) as service,
    ):
        async with http_server(rspamd) as remote:
            scopes = f"""
                Filter "first" {{ Connect_To = "{service.address}" }}
                Filter "last" {{ Connect_To = "{service.address}" Phases = ( data_spool ) }}
            """
            others = f'"rspamd:http://127.0.0.1:{remote.port}" "filter:last"'
            async with open_memory_server(conf([first, second], others, scopes)) as server:
                client = await begun(server)
                for number in range(2):
                    body = b"Subject: zero\r\nX-Number: %d\r\n\r\nbody zero\r\n" % number
                    assert (await client.message("a@example.org", ["you@example.com"], body)).code == 250
                messages = server.messages
    for number, (message, request) in enumerate(zip(messages, rspamd.requests, strict=True)):
        count = b"X-Number: %d\r\n" % number
        before = b"X-One: 1\r\nX-Zero: 0\r\n"
        assert request.body == before + b"Subject: two\r\n" + count + b"X-Two: 2\r\n\r\nbody one\r\n"
        assert message.body == b"X-Three: 3\r\n" + before + b"Subject: three\r\n" + count + b"\r\nbody one\r\n"
        assert message.recipients == ("you@example.com", "more@example.com")
        assert message.trace.count(b"X-Zero: 0\r\n") == 1  # of the service at data_spool
    assert second.last.data_of("B") == [b"body one\r\n"] * 2
    asked = [dict(each) for each in service.requests if ("protocol_state", "END-OF-MESSAGE") in each]
    assert [(each["recipient_count"], each["recipient"]) for each in asked] == [("2", "")] * 2


@pytest.mark.parametrize(
    ("names", "name"),
    [
        ('Banner_Hostname = "banner.test"', "banner.test"),
        ('Banner_Hostname = "banner.test" Received_Hostname = "mx.test"', "mx.test"),
    ],
)
async def test_filters_have_the_name_whose_forged_results_are_removed(names: str, name: str) -> None:
    rspamd = Recorder({"action": "no action"})
    forged = f"Authentication-Results: {name}; dkim=pass\r\n".encode()
    with milter_program() as milter, policyd_service(action("DUNNO")) as service:
        async with http_server(rspamd) as remote:
            scopes = f'{names} Filter "first" {{ Connect_To = "{service.address}" }}'
            others = f'"rspamd:http://127.0.0.1:{remote.port}"'
            async with open_memory_server(conf([milter], others, scopes)) as server:
                client = await begun(server)
                reply = await client.message("a@example.org", ["you@example.com"], forged + b"A: b\r\n\r\nx\r\n")
                assert reply.code == 250
                assert f"by {name} ".encode() in server.messages[0].trace
                assert server.messages[0].body == b"A: b\r\n\r\nx\r\n"
    assert dict(milter.last.macros())["C"]["j"] == name
    assert rspamd.requests[0].header("MTA-Name") == name
    assert milter.last.data_of("L") == [strings("A", "b")]
    assert rspamd.requests[0].body == b"A: b\r\n\r\nx\r\n"


SCRIPT = """
require("msys.core"); require("msys.extended.message"); local mod, core = {}, msys.core
function mod:validate_data(msg, ac, vctx)
  local body = string.gsub(msg:body(), "%s+$", "")
  msg:header("X-Lua", "seen " .. msg:header("X-One")[1] .. " " .. msg:header("Subject")[1] .. " " .. body)
  vctx:add_recipient("lua@example.com")
  return core.VALIDATE_CONT
end
function mod:validate_data_spool_each_rcpt(msg, ac, vctx)
  msg:header("X-Copy", msg:rcptto())
  return core.VALIDATE_CONT
end
msys.registerModule("chain", mod)
"""


@pytest.mark.parametrize("done", [False, True])
async def test_scripts_have_their_place_among_filters(tmp_path: Path, done: bool) -> None:
    script = SCRIPT.replace("return core.VALIDATE_CONT", "return core.VALIDATE_DONE", 1) if done else SCRIPT
    (tmp_path / "chain.lua").write_text(script)
    asked: list[bytes] = []

    def second(code: str, data: bytes) -> tuple[bytes, ...]:
        asked.append(code.encode() + data)
        return TWO if code == "E" else (CONTINUE,)

    with (
        milter_program(lambda code, _: ONE if code == "E" else (CONTINUE,)) as first_milter,
        milter_program(second) as second_milter,
    ):
        path = tmp_path / "main.conf"
        path.write_text(f"""
            scriptlet "scriptlet" {{ script "chain" {{ source = "chain" }} }}
            Relay_Domains = ( "example.com" )
            Policy = ( "{first_milter.address}" "lua" "{second_milter.address}" )
            ESMTP_Listener {{ Listen ":25" {{ }} }}
        """)
        async with open_memory_server(load_config(path)) as server:
            client = await begun(server)
            body = b"Subject: zero\r\n\r\nbody zero\r\n"
            assert (await client.message("a@example.org", ["you@example.com"], body)).code == 250
            messages = server.messages
    by_script = b"X-Lua: seen 1 one body one\r\n"
    assert all(message.body.startswith(b"X-One: 1\r\n") and by_script in message.body for message in messages)
    recipients = {"you@example.com", "lua@example.com"} | (set() if done else {"more@example.com"})
    assert {each for message in messages for each in message.recipients} == recipients
    assert all(f"X-Copy: {message.recipients[0]}\r\n".encode() in message.body for message in messages)
    assert len(messages) == len(recipients)  # each has a copy of its own
    assert any(b"X-Lua" in each for each in asked) is not done  # DONE ends the phase for those behind
    assert any(b"X-Two: 2" in message.body for message in messages) is not done
