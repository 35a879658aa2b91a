"""Listening sockets: binding them, and accepting connections."""

import errno
import os
import socket
import stat
import threading
from itertools import count
from pathlib import Path
from typing import ClassVar

import pytest
import trio

from triosmtp.config import UnixAddress
from triosmtp.sockets.listener import accept_connections, bind_unix
from triosmtp.sockets.peer import Peer


def test_binding_a_unix_socket_leaves_the_umask_of_the_process_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: set[int] = set()
    begun, ended = threading.Event(), threading.Event()

    def make_files() -> None:
        for number in count():
            file = tmp_path / f"file{number}"
            os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o666))
            modes.add(stat.S_IMODE(file.stat().st_mode))
            file.unlink()
            begun.set()
            if ended.is_set():
                return

    before_chmod: list[int] = []
    chmod = Path.chmod

    def observed(path: Path, mode: int) -> None:
        before_chmod.append(stat.S_IMODE(path.lstat().st_mode))
        chmod(path, mode)

    monkeypatch.setattr(Path, "chmod", observed)
    umask = os.umask(0)  # nothing is taken away: what the socket is closed to, it is closed to by its own mode
    thread = threading.Thread(target=make_files)
    thread.start()
    try:
        assert begun.wait(60)
        for number in range(200):
            path = tmp_path / f"socket{number}"
            bind_unix(UnixAddress(str(path), 0o660)).close()
            assert stat.S_IMODE(path.lstat().st_mode) == 0o660
    finally:
        ended.set()
        thread.join()
        os.umask(umask)
    assert modes == {0o666}
    assert before_chmod == [0o600] * 200  # nobody else may connect before it has the mode that is asked for


class Faulty(socket.socket):
    """A listening socket whose accept fails, with each of ``errors`` in turn, before it works."""

    errors: ClassVar[list[int]] = []
    calls = 0

    def _accept(self) -> tuple[int, object]:
        Faulty.calls += 1
        if Faulty.errors:
            number = Faulty.errors.pop(0)
            raise OSError(number, os.strerror(number))
        result: tuple[int, object] = super()._accept()  # type: ignore[misc]  # not public
        return result


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO, errno.EMFILE, errno.ENOBUFS, errno.EBADF])
async def test_no_error_of_accept_ends_the_loop_and_none_makes_it_spin(
    number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    accepted = trio.Event()
    Faulty.calls = 0
    monkeypatch.setattr(Faulty, "errors", [number, errno.ECONNABORTED, number])
    pauses: list[float] = []
    sleep = trio.sleep

    async def observed(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(trio, "sleep", observed)

    def take(sock: socket.socket, peer: Peer) -> None:
        sock.close()
        accepted.set()

    with Faulty() as listener, socket.socket() as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        client.connect(listener.getsockname())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_connections, listener, take)
            with trio.fail_after(60):
                await accepted.wait()
            nursery.cancel_scope.cancel()
    assert pauses == [0.1, 0.1]
    assert Faulty.calls <= 5  # three failures, the connection, and the look for the next one
    assert caplog.messages == [f"cannot accept a connection: {os.strerror(number)}; trying again every 0.1 s"] or (
        caplog.messages[-1] == "connections are accepted again"
    )
