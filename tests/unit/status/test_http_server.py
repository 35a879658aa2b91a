"""HTTP of the status pages: slow, large, malformed and well-formed requests."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from status_server import MAIL, STATUS, ask, parse, read_all, serving

from triosmtp.status import http_server
from triosmtp.status.asgi import Application, Receive, Scope, Send

PIECES = (b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.1\r\n", b"Host: localhost\r\n", b"Content-Length: 5\r\n", b"\r\n",
          b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"Upgrade: h2c\r\n",
          b"CONNECT a:1 HTTP/1.1\r\n", b"Expect: 100-continue\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")  # fmt: skip
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the body of the request."""
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


Talk = Callable[[trio.abc.Stream], Awaitable[None]]


async def converse(application: Application, talk: Talk, *, closing: bool = False) -> float:
    """Serve one connection in memory while `talk` has its other end; return the seconds that it took."""
    client, server = trio.testing.memory_stream_pair()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(talk, client)
        await http_server.serve_http(server, application, client=None, closing=lambda: closing)
        ended = trio.current_time()
        await server.aclose()
    return ended - began


# Slow ones


async def test_a_client_that_says_nothing_is_left(autojump_clock: trio.testing.MockClock) -> None:
    async def talk(stream: trio.abc.Stream) -> None:
        assert await stream.receive_some() == b""

    assert await converse(echo, talk) == 10


async def test_a_head_and_a_body_that_drip_have_ten_seconds(autojump_clock: trio.testing.MockClock) -> None:
    for begin in (b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n"):

        async def talk(stream: trio.abc.Stream, begin: bytes = begin) -> None:
            await stream.send_all(begin)
            with suppress(trio.BrokenResourceError):
                while True:
                    await trio.sleep(1)
                    await stream.send_all(b"X")

        assert await converse(echo, talk) == pytest.approx(10, abs=1)


async def test_a_connection_may_be_idle_between_requests_for_longer(autojump_clock: trio.testing.MockClock) -> None:
    async def talk(stream: trio.abc.Stream) -> None:
        for _ in range(3):
            await stream.send_all(GET)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
            await trio.sleep(60)
        assert await stream.receive_some() == b""

    assert await converse(echo, talk) == 60 + 60 + 75


async def test_a_client_that_does_not_read_is_left(autojump_clock: trio.testing.MockClock) -> None:
    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})

    client, server = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, GET)
        await http_server.serve_http(server, endless, client=None, closing=lambda: False)
    assert trio.current_time() == 20


# Large ones


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000, 431),
        (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70_000, 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"400\r\n" + b"x" * 1024 + b"\r\n", 413),
        (b"garbage\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET http://localhost/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
        (b"GET /%ff%00 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 404),
    ],
)  # fmt: skip
async def test_what_is_malformed_or_too_large_is_refused(request_: bytes, status: int) -> None:
    got: list[bytes] = []

    async def talk(stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                with trio.move_on_after(1):
                    try:
                        await stream.send_all(request_)
                        for _ in range(100 if b"chunked" in request_ else 0):
                            await stream.send_all(b"400\r\n" + b"x" * 1024 + b"\r\n")
                    except trio.BrokenResourceError:
                        pass

            nursery.start_soon(send)
            got.append(await read_all(stream))

    async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    await converse(nothing, talk)
    assert parse(got[0]).status == status
    assert parse(got[0]).headers["connection"] == "close"


# Many


@given(data=st.lists(st.binary(max_size=200) | st.sampled_from(PIECES), max_size=12))
def test_whatever_comes_nothing_but_answers_comes_back(data: list[bytes]) -> None:
    got: list[bytes] = []

    async def talk(stream: trio.abc.Stream) -> None:
        with suppress(trio.BrokenResourceError):
            for piece in data:
                await stream.send_all(piece)
        with suppress(trio.BrokenResourceError):
            await stream.send_eof()  # type: ignore[attr-defined]
            got.append(await read_all(stream))

    trio.run(partial(converse, echo, talk), clock=trio.testing.MockClock(autojump_threshold=0))
    assert b"".join(got) == b"" or b"".join(got).startswith(b"HTTP/1.1 ")
    assert b"HTTP/1.1 500" not in b"".join(got)


# Good ones


async def test_bodies_heads_and_continuation() -> None:
    async def talk(stream: trio.abc.Stream) -> None:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        assert (await stream.receive_some()).endswith(b"5\r\nhello\r\n0\r\n\r\n")
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 100 ")
        await stream.send_all(b"again")
        assert (await stream.receive_some()).endswith(b"5\r\nagain\r\n0\r\n\r\n")
        await stream.send_all(b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
        assert (await stream.receive_some()).endswith(b"\r\n\r\n")
        await stream.send_all(GET + GET)
        got = b""
        while got.count(b"HTTP/1.1 200") < 2:
            got += await stream.receive_some()
        await stream.aclose()

    await converse(echo, talk)


async def test_a_stream_ends_when_its_reader_is_gone() -> None:
    told: list[str] = []

    async def events(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        told.append((await receive())["type"])

    async def talk(stream: trio.abc.Stream) -> None:
        await stream.send_all(GET)
        assert b"one" in await stream.receive_some()
        await stream.aclose()

    await converse(events, talk)
    assert told == ["http.disconnect"]


async def test_what_fails_is_logged_and_answered_500(caplog: pytest.LogCaptureFixture) -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("a fault of ours")

    async def talk(stream: trio.abc.Stream) -> None:
        await stream.send_all(GET)
        response = parse(await read_all(stream))
        assert response.status == 500
        assert "fault" not in response.body

    await converse(fails, talk)
    assert "GET /healthz failed" in caplog.text


async def test_who_leaves_is_given_its_last_answer() -> None:
    async def talk(stream: trio.abc.Stream) -> None:
        await stream.send_all(GET)
        assert parse(await read_all(stream)).headers["connection"] == "close"

    await converse(echo, talk, closing=True)


async def test_the_whole_of_it_over_a_socket() -> None:
    async with serving(f"{MAIL} {STATUS}") as here:
        response = await ask(here.port, b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert (response.status, response.body) == (200, "ok\n")
