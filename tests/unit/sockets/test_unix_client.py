"""Connections to Unix sockets, also while the backlog of the listener is full."""

from pathlib import Path

import pytest
import trio
import trio.testing

from triosmtp.sockets.unix_client import connect_unix_socket


async def test_a_full_backlog_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    answers: list[bytes | bytearray] = []

    async def ask() -> None:
        async with await connect_unix_socket(path) as stream:
            await stream.send_all(b"x")
            answers.append(await stream.receive_some())

    with trio.socket.socket(trio.socket.AF_UNIX) as listener:
        await listener.bind(str(path))
        listener.listen(0)
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(4):
                accepted, _ = await listener.accept()
                with accepted:
                    assert await accepted.recv(1) == b"x"
                    await accepted.send(b"y")
    assert answers == [b"y"] * 4


async def test_the_deadline_is_the_callers(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with trio.socket.socket(trio.socket.AF_UNIX) as listener:
        await listener.bind(str(path))
        listener.listen(0)
        async with await connect_unix_socket(str(path)):
            with trio.move_on_after(0.02) as scope:
                await connect_unix_socket(path)
        assert scope.cancelled_caught


async def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await connect_unix_socket(tmp_path / "nobody")
    (tmp_path / "file").touch()
    with pytest.raises(ConnectionRefusedError):
        await connect_unix_socket(tmp_path / "file")
    with pytest.raises(OSError, match="too long"):
        await connect_unix_socket("x" * 200)
