"""The console against sockets that do not behave as a server does: the error names the path and the reason."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from triosmtp.control import console_client
from triosmtp.control.console_client import UnreachableError, run_command, send_command
from triosmtp.control.console_protocol import ConsoleResponse


@contextmanager
def server(path: Path, response: bytes | None) -> Iterator[list[bytes]]:
    """Accept one connection, keep its line, and send ``response``; None: send nothing until the client leaves."""
    received: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(path))
        sock.listen()

        def serve() -> None:
            accepted, _ = sock.accept()
            with accepted, accepted.makefile("rb") as stream:
                received.append(stream.readline())
                if response is None:
                    stream.read()
                else:
                    accepted.sendall(response)

        thread = threading.Thread(target=serve)
        thread.start()
        yield received
        thread.join()


def test_a_command_is_sent_and_its_response_returned(tmp_path: Path) -> None:
    response = ConsoleResponse("text", {"a": 1}, 78)
    with server(tmp_path / "control", response.encode()) as received:
        assert send_command(["config", "get", "ü"], tmp_path / "control") == response
    assert received == [b'{"words": ["config", "get", "\\u00fc"]}\n']


@pytest.mark.parametrize("response", [b"", b"220 mx ESMTP\r\n", b'{"text": "cut off', b"{}\n"], ids=repr)
def test_a_response_of_something_else_is_no_response(tmp_path: Path, response: bytes) -> None:
    path = tmp_path / "control"
    with server(path, response), pytest.raises(UnreachableError, match=rf"^{path}: the response is not from triosmtp"):
        send_command(["help"], path)


def test_a_server_that_does_not_respond_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_client, "_RESPONSE_TIMEOUT", 0.1)
    path = tmp_path / "control"
    with server(path, None), pytest.raises(UnreachableError, match=rf"^{path}: no response$"):
        send_command(["help"], path)


def test_a_path_without_a_server_is_exit_status_69(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "control"
    assert run_command(["help"], path) == 69
    assert capsys.readouterr().err == (
        f"triosmtp: {path}: No such file or directory; is the server running? (--control PATH, -c FILE)\n"
    )


@pytest.mark.parametrize(("status", "stream"), [(0, "out"), (1, "err"), (78, "err")])
def test_the_text_of_a_failure_goes_to_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], status: int, stream: str
) -> None:
    with server(tmp_path / "control", ConsoleResponse("text", None, status).encode()):
        assert run_command(["help"], tmp_path / "control") == status
    captured = capsys.readouterr()
    assert getattr(captured, stream) == "text\n"
    assert captured.out + captured.err == "text\n"
