"""The process at the other end of a Unix socket, and the mode that admits it."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from triosmtp.sockets.peer_credentials import check_peer_credentials

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
CONNECT = """
import os, socket, sys
path, user, group, more = sys.argv[1], *map(int, sys.argv[2:])
os.setgroups([more]); os.setresgid(group, group, group); os.setresuid(user, user, user)
sock = socket.socket(socket.AF_UNIX); sock.connect(path); sock.recv(1)
"""


@pytest.fixture
def path() -> Iterator[Path]:
    with TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "socket"


def test_the_user_of_this_process_may_connect() -> None:
    near, far = socket.socketpair()
    with near, far:
        assert check_peer_credentials(near, 0o600) is None


@as_root
@pytest.mark.parametrize(
    ("ids", "mode", "admitted"),
    [
        ((65534, 65534, 65534), 0o600, False),
        ((65534, 65534, 65534), 0o660, False),
        ((65534, 65534, 65534), 0o666, True),
        ((65534, 4242, 65534), 0o660, True),
        ((65534, 65534, 4242), 0o660, True),
        ((65534, 4242, 4242), 0o640, False),
        ((65534, 4242, 4242), 0o604, False),
    ],
)
def test_another_user_is_admitted_by_the_mode_and_group_of_the_socket(
    path: Path, ids: tuple[int, int, int], mode: int, admitted: bool
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        os.chown(path, 0, 4242)
        path.chmod(0o666)  # the kernel admits each; the mode under test is that of the call
        listener.listen()
        process = subprocess.Popen([sys.executable, "-c", CONNECT, str(path), *map(str, ids)])
        listener.settimeout(60)
        with process, listener.accept()[0] as sock:
            peer = check_peer_credentials(sock, mode)
    if admitted:
        assert peer is None
    else:
        assert peer == f"process {process.pid} of user {ids[0]}, group {ids[1]}"
