"""The control socket: its path, the users that may use it, and hostile clients."""

import errno
import json
import os
import select
import signal
import smtplib
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from daemon_server import DaemonServer, daemon
from serve_process import COMMAND

LISTEN = 'Listen "127.0.0.1:0" { }'
ASK = b'{"words": ["show", "inbound"]}\n'
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonServer]:
    with daemon(tmp_path_factory.mktemp("console"), LISTEN) as running:
        yield running


@contextmanager
def connected(server: DaemonServer) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(server.control)
        yield sock


def ask(sock: socket.socket, request: bytes) -> dict[str, object]:
    sock.sendall(request)
    with sock.makefile("rb") as stream:
        answer = json.loads(stream.readline())
    assert isinstance(answer, dict)
    return answer


def mode(path: str | Path) -> int:
    return Path(path).stat().st_mode & 0o777


# Its path


def test_without_a_word_it_is_in_the_state_folder_for_its_user_alone(server: DaemonServer) -> None:
    assert server.control == f"{server.folder}/state/control"
    assert (mode(server.control), mode(server.folder / "state")) == (0o600, 0o700)
    assert server.run("console", "version").status == 0  # both sides look there


@pytest.mark.parametrize(
    ("variable", "inside"), [("RUNTIME_DIRECTORY", "control"), ("XDG_RUNTIME_DIR", "triosmtp/control")]
)
def test_the_runtime_folder_comes_first(tmp_path: Path, variable: str, inside: str) -> None:
    server = DaemonServer(tmp_path)
    server.environment[variable] = str(tmp_path / "run")
    (tmp_path / "run").mkdir()
    server.write(LISTEN)
    server.start()
    try:
        assert server.control == f"{tmp_path}/run/{inside}"
        assert mode(server.control) == 0o600
        assert server.run("reload").status == 0
    finally:
        assert server.console("shutdown").status == 0
        assert server.wait() == 0


def test_a_control_listener_has_its_place_and_mode_and_follows_reloads(tmp_path: Path) -> None:
    control = f'Control_Listener {{ Listen "{tmp_path}/one" {{ }} }}'
    with daemon(tmp_path, LISTEN, control) as server:
        assert server.control == f"{tmp_path}/one"
        assert mode(server.control) == 0o660
        assert server.run("console", "-c", str(server.conf), "version").status == 0
        server.write(
            LISTEN, f'Control_Listener {{ Listen "{tmp_path}/one" {{ File_Mode = 0600 }} Listen "./two" {{ }} }}'
        )
        assert server.console("config reload").status == 0
        assert (mode(tmp_path / "one"), mode(tmp_path / "two")) == (0o600, 0o660)
        server.control = f"{tmp_path}/two"
        server.write(LISTEN, f'Control_Listener {{ Listen "{tmp_path}/two" {{ }} Listen "/nowhere/three" {{ }} }}')
        failed = server.console("config reload")
        assert failed.status == 78
        assert 'Listen "/nowhere/three": No such file or directory' in failed.err
        assert (tmp_path / "one").exists()
        # The console that asks for it sits behind the very socket that goes.
        server.write(LISTEN)
        assert server.console("config reload").status == 0
        assert not (tmp_path / "one").exists()
        assert not (tmp_path / "two").exists()
        server.control = f"{tmp_path}/state/control"
        assert server.console("version").status == 0


def test_a_control_listener_of_momentum_has_its_unix_socket_served_and_no_tcp(tmp_path: Path) -> None:
    with socket.socket() as taken:  # what would be bound at this port would fail
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        control = f"""Control_Listener {{
            Enable_Authentication = true  Listen_Backlog = 20
            AuthDigestMD5Parameters = [ uri = "digest:///nowhere" ]
            Peer "127.0.0.1" {{ Enable_Authentication = false }}
            Listen "127.0.0.1:{port}" {{ Enable_Authorization = true }}
            Listen "{tmp_path}/2025" {{ }}
        }}"""
        with daemon(tmp_path, LISTEN, control) as server:
            assert server.control == f"{tmp_path}/2025"
            assert server.run("console", "-c", str(server.conf), "version").status == 0
            assert f'warning: Listen "127.0.0.1:{port}" is not served' in server.log
            assert server.console("config reload").status == 0


def test_a_reload_reports_everything_that_cannot_be_opened(tmp_path: Path) -> None:
    with daemon(tmp_path, LISTEN) as server:
        server.write(
            LISTEN,
            'Log "mainlog" { Path = "/nowhere/mainlog" }\nControl_Listener { Listen "/nowhere/control" { } }\n'
            'Status_Listener { Token_File = "no-token" Listen "127.0.0.1:0" { } }',
        )
        failed = server.console("config reload")
        assert failed.status == 78
        for part in ('Log "mainlog": /nowhere/mainlog', 'Listen "/nowhere/control": No such file', "Token_File: "):
            assert part in failed.err, failed.err


def test_a_reload_creates_the_control_socket_in_a_removed_folder(tmp_path: Path) -> None:
    with daemon(tmp_path, LISTEN) as server:
        Path(server.control).unlink()
        assert server.console("version").status == 69
        server.signal(signal.SIGHUP)
        deadline = time.monotonic() + 20
        while server.console("version").status != 0:
            assert time.monotonic() < deadline
        assert server.console("config reload").status == 0
        assert mode(server.control) == 0o600
    assert not Path(server.control).exists()


def test_the_option_control_overrides_the_configuration(tmp_path: Path) -> None:
    control = f'Control_Listener {{ Listen "{tmp_path}/one" {{ }} }}'
    with daemon(tmp_path, LISTEN, control, ("--control", "here")) as server:
        assert server.control == f"{tmp_path}/here"
        assert server.console("config reload").status == 0
        assert (tmp_path / "here").exists()
        assert not (tmp_path / "one").exists()


def test_two_servers_of_one_user(tmp_path: Path, server: DaemonServer) -> None:
    command = [*COMMAND, "serve", "-c", str(server.conf)]
    # A configured path that cannot be used is an error; the default path is a convenience.
    done = subprocess.run(
        [*command, "--control", server.control], env=server.environment, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 75
    assert f"--control {server.control}: Address already in use" in done.stderr.decode()
    with subprocess.Popen(command, env=server.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b'Listen "127.0.0.1:0": ')
        process.terminate()
        _, log = process.communicate(timeout=60)
    assert f"no control socket: {server.control}: Address already in use" in log.decode()
    assert server.console("version").status == 0


# Who may


def ask_as(path: str, user: int, group: int, *others: int) -> dict[str, object]:
    """Connect as another user.  The interpreter may be out of that user's reach: so it is a fork, not a program."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups(others)
            os.setresgid(group, group, group)
            os.setresuid(user, user, user)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(path)
                with suppress(BrokenPipeError):  # it has been turned away already
                    sock.sendall(ASK)
                os.write(into, sock.makefile("rb").readline())
        except OSError as error:
            os.write(into, json.dumps({"error": error.errno}).encode())
        finally:
            os._exit(0)
    os.close(into)
    with os.fdopen(out, "rb") as stream:
        answer = json.loads(stream.read())
    os.waitpid(pid, 0)
    assert isinstance(answer, dict)
    return answer


@as_root
def test_strangers_are_kept_out_by_the_mode_and_by_the_kernels_word(tmp_path: Path) -> None:
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # a folder that everybody may enter
        control = Path(folder) / "control"
        with daemon(tmp_path, LISTEN, f'Control_Listener {{ Listen "{control}" {{ }} }}') as server:
            assert ask_as(server.control, NOBODY, NOBODY) == {"error": errno.EACCES}
            # Somebody loosens the mode behind our back: that opens nothing.
            control.chmod(0o666)
            answer = ask_as(server.control, NOBODY, NOBODY)
            assert (answer["status"], answer["text"]) == (77, "refused")
            assert "console refused: process " in server.log
            assert f"of user {NOBODY}, group {NOBODY}" in server.log
            # File_Mode = 0660 is for the socket's group, as the first group of a process or as another one.
            os.chown(control, -1, 12345)
            assert ask_as(server.control, NOBODY, 12345)["status"] == 0
            assert ask_as(server.control, NOBODY, NOBODY, 1, 12345)["status"] == 0
            assert ask_as(server.control, NOBODY, NOBODY, 1, 2)["status"] == 77
            assert ask_as(server.control, 0, 0)["status"] == 0


# Hostile consoles


@pytest.mark.parametrize(
    "request_",
    [
        b"\n",
        b"show inbound\n",
        b"\xff\xfe\x00\n",
        b"[]\n",
        b"{}\n",
        b'{"words": "show inbound"}\n',
        b'{"words": [1]}\n',
        b'{"words": [["show"]]}\n',
        b"[" * 60000 + b"\n",
        b'{"words": ["show", "inbound"]',
        b"x" * 200_000,
    ],
    ids=lambda data: repr(data[:20]),
)
def test_garbage_is_answered_or_cut_off(server: DaemonServer, request_: bytes) -> None:
    with connected(server) as sock:
        try:
            sock.sendall(request_)
            sock.shutdown(socket.SHUT_WR)
            answer = sock.makefile("rb").readline()
        except (BrokenPipeError, ConnectionResetError):
            answer = b""
        assert not answer or json.loads(answer)["status"] == 64
    assert server.ask("show inbound") == []


def test_one_connection_may_ask_many_times(server: DaemonServer) -> None:
    with connected(server) as sock:
        for _ in range(50):
            assert ask(sock, ASK)["status"] == 0
        assert ask(sock, b"junk\n")["status"] == 64
        assert ask(sock, ASK)["status"] == 0


def test_a_client_that_never_reads_or_never_sends_blocks_no_other(server: DaemonServer) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(connected(server)) for _ in range(8)]
        deaf = [stack.enter_context(connected(server)) for _ in range(7)]
        for sock in deaf:
            sock.setblocking(False)
            try:
                while True:
                    sock.send(b'{"words": ["config", "eval"]}\n' * 100)
            except BlockingIOError:
                pass  # its answers fill the kernel's buffers, and the server reads no further
        assert server.console("version").status == 0
        with smtplib.SMTP("127.0.0.1", server.port("127.0.0.1:0"), "me.example.org", 30) as client:
            assert client.noop()[0] == 250
        assert select.select(silent, [], [], 0)[0] == []


def test_too_many_control_connections_are_refused_until_one_ends(server: DaemonServer) -> None:
    deadline = time.monotonic() + 20
    while refused_of(server, 40) != 24:  # at first, consoles of other tests may still be on their way out
        assert time.monotonic() < deadline
    while server.console("version").status == 77:
        assert time.monotonic() < deadline


def refused_of(server: DaemonServer, count: int) -> int:
    """Open so many connections at once, and return how many of them were turned away."""
    with ExitStack() as stack:
        socks = [stack.enter_context(connected(server)) for _ in range(count)]
        answers = []
        for sock in socks:
            with suppress(BrokenPipeError):  # it has been turned away already
                sock.sendall(ASK)
            answers.append(json.loads(sock.makefile("rb").readline()))
        return [answer["status"] for answer in answers].count(77)
