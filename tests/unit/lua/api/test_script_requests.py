"""Requests of scripts to other servers."""

import pytest
from http_server import answer, http_server, silence
from lua_scripts import Script
from script_callout import CalloutStub, callout_with_message

from triosmtp.lua.api import TABLES
from triosmtp.lua.state import Failure


async def run(chunk: str, url: str = "http://localhost:1", callout: CalloutStub | None = None) -> str:
    callout = callout or callout_with_message()
    body = f"local url, c = ... local request = http.client.new() {chunk}"
    try:
        found = await Script(*TABLES).run(body.encode(), url, current=callout)
    finally:
        await callout.engine.resources.aclose()
    return found.decode() if isinstance(found, bytes) else str(found)


@pytest.mark.parametrize(
    ("chunk", "error"),
    [
        ("request:do_request('TRACE', url)", "'TRACE' is none of"),
        ("request:do_request('GET', 'file:///etc/passwd')", "begins with http:// or https://"),
        ("request:do_request('GET', 'http://a b/')", "has no blanks"),
        ("request:do_request('GET', 'http://a\\r\\nX: 1')", "has no blanks"),
        ("request:set_header('X: a\\r\\nY: b')", "is not a header line that can be set"),
        ("request:set_header('no colon')", "is not a header line that can be set"),
        ("request:set_header('Content-Length: 5')", "is not a header line that can be set"),
        ("request:set_header('Host: other')", "is not a header line that can be set"),
        ("for n = 1, 100 do request:set_header('X: a') end", "more than 64 header lines"),
        ("request:set_timeout(0)", "more than 0 and at most 300"),
        ("request:set_timeout(1e9)", "more than 0 and at most 300"),
        ("request:do_request('POST', url, ('x'):rep(2000000))", "octets of data"),
    ],
)
async def test_a_mistake_is_a_script_error(chunk: str, error: str) -> None:
    with pytest.raises(Failure) as caught:
        await run(chunk.replace("\\\\", "\\"))
    assert error in caught.value.text


async def test_failures_are_nil_and_a_text() -> None:
    chunk = (
        "request:set_timeout(0.05) local ok, text = request:do_request('GET', url) return tostring(ok) .. ' ' .. text"
    )
    async with http_server(silence) as server:
        assert await run(chunk, server.url) == "nil timeout"
    async with http_server(answer(b"x" * (1024 * 1024 + 1))) as server:
        assert "has more than 1048576 octets" in await run(chunk.replace("0.05", "30"), server.url)
    assert (await run(chunk.replace("0.05", "30"), "http://localhost:1/")).startswith("nil ")
    assert (await run(chunk.replace("0.05", "30"), "http://[::1/")).startswith("nil ")


async def test_an_answer_is_forgotten_at_the_next_request() -> None:
    chunk = """
      request:set_header('X-One: 1')
      request:do_request('get', url)
      local first = request:get_status() .. request:get_body()
      request:set_header()
      request:do_request('GET', 'http://localhost:1/')
      return first .. ' ' .. request:get_status() .. request:get_body() .. request:get_headers()
    """
    async with http_server(answer("yes", 299)) as server:
        assert await run(chunk, server.url) == "299yes 0"
        assert server.requests[0].header("x-one") == "1"
