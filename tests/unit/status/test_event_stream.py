"""The event stream of the status page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from status_server import MAIL, Response, ask, serving

from triosmtp.status.login import LOGIN_SECONDS

TOKEN = "a-token-of-many-characters"


def listener(token: Path | None = None, options: str = "", address: str = "127.0.0.1:0") -> str:
    given = "" if token is None else f'Token_File = "{token}"'
    return f'{MAIL} Status_Listener {{ {given} {options} Listen "{address}" {{ }} }}'


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    return path


async def log_in(port: int, given: str = TOKEN) -> Response:
    body = f"token={given}"
    head = f"POST /login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return await ask(port, f"{head}{body}".encode())


async def cookie(port: int) -> str:
    return f"Cookie: {(await log_in(port)).headers['set-cookie'].partition(';')[0]}"


@asynccontextmanager
async def watching(port: int, field: str) -> AsyncIterator[trio.SocketStream]:
    """Look on, from the first frame."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(f"GET /events HTTP/1.1\r\nHost: localhost\r\n{field}\r\n\r\n".encode())
        seen = b""
        while not seen.endswith(b"\n\n\r\n"):
            seen += await stream.receive_some()
        assert b"\r\n\r\n" in seen
        assert b"\r\ndata: {" in seen
        yield stream


async def next_of(*streams: trio.SocketStream, clock: trio.testing.MockClock, seconds: float = 2) -> set[bytes]:
    """Let time pass; return the beginning of the data that each receives then."""
    await trio.testing.wait_all_tasks_blocked()
    clock.jump(seconds)
    return {bytes(await stream.receive_some()).partition(b"\r\n")[2][:7] for stream in streams}


FRAME, END = {b"data: {"}, {b"\r\n"}


async def test_the_feed_goes_on_over_reloads_and_ends_with_the_token(
    token: Path, mock_clock: trio.testing.MockClock
) -> None:
    text = listener(token)
    async with serving(text) as here:
        shown = await cookie(here.port)
        async with watching(here.port, shown) as page, watching(here.port, f"Authorization: Bearer {TOKEN}") as program:
            await here.reload(text)
            assert await next_of(page, program, clock=mock_clock) == FRAME
            token.write_text("another-token-of-many-characters")  # noqa: ASYNC240
            await here.reload(text)
            assert await next_of(page, program, clock=mock_clock) == END
            assert await page.receive_some() == b""


async def test_the_feed_ends_with_its_listener(token: Path, mock_clock: trio.testing.MockClock) -> None:
    async with serving(listener(token)) as here, watching(here.port, f"Authorization: Bearer {TOKEN}") as stream:
        await here.reload(MAIL)
        assert await next_of(stream, clock=mock_clock) == END


async def test_the_feed_ends_with_the_login(token: Path, mock_clock: trio.testing.MockClock) -> None:
    async with serving(listener(token)) as here:
        shown = await cookie(here.port)
        async with watching(here.port, shown) as stream:
            await ask(
                here.port, f"POST /logout HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{shown}\r\n\r\n".encode()
            )
            assert await next_of(stream, clock=mock_clock) == END
        async with watching(here.port, await cookie(here.port)) as stream:
            assert await next_of(stream, clock=mock_clock, seconds=LOGIN_SECONDS - 2) == FRAME
            assert await next_of(stream, clock=mock_clock) == END
