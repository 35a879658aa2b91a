"""The attempts to log in with a token."""

import time
from pathlib import Path

import pytest
import trio
import trio.testing
from status_server import MAIL, Response, ask, serving

from triosmtp.status.login import Logins
from triosmtp.status.request_access import AccessRules

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


async def test_wrong_tokens_wait_and_hold_no_right_one_up(token: Path, mock_clock: trio.testing.MockClock) -> None:
    statuses: list[int] = []
    async with serving(listener(token)) as here, trio.open_nursery() as nursery:

        async def guess() -> None:
            statuses.append((await log_in(here.port, "wrong")).status)

        for _ in range(30):
            nursery.start_soon(guess)
        end = time.monotonic() + 20  # of the world's time: the server's stands still
        while len(statuses) < 26:
            assert time.monotonic() < end
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert set(statuses) == {429}
        assert (await log_in(here.port)).status == 303
        await trio.testing.wait_all_tasks_blocked()
        assert len(statuses) == 26
        mock_clock.jump(1)
    assert statuses[26:] == [403] * 4
    logins, access = Logins(), AccessRules("", None, frozenset(), TOKEN)
    assert logins.log_in(access, TOKEN)
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(logins.delay, {"client": (f"192.0.2.{number}", 1)})
        await trio.testing.wait_all_tasks_blocked()
        waited = True
        with trio.move_on_after(0):
            waited = await logins.delay({"client": None})
        assert not waited, "many peers are bounded, too"
        mock_clock.jump(1)
    assert not logins._delayed


async def log_in(port: int, given: str = TOKEN) -> Response:
    body = f"token={given}"
    head = f"POST /login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return await ask(port, f"{head}{body}".encode())
