"""The console: the client of the control socket, for one command or an interactive session."""

import importlib
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from triosmtp.control.console_protocol import ConsoleRequest, ConsoleResponse, split_words
from triosmtp.filesystem import make_directory, state_directory

__all__ = ["UnreachableError", "run_command", "run_console", "send_command"]

_EX_USAGE: Final = 64
_EX_UNAVAILABLE: Final = 69
_CONNECT_TIMEOUT: Final = 5.0
_RESPONSE_TIMEOUT: Final = 120.0  # a reload reads many files
_PROMPT: Final = "triosmtp> "
_HISTORY_LINES: Final = 1000


class UnreachableError(Exception):
    """No server responds; the text has the path and the reason."""


def run_command(words: Sequence[str], path: Path, *, as_json: bool = False) -> int:
    """Send one command to the server behind the socket at ``path`` and print the response; return the exit status."""
    try:
        response = send_command(words, path)
    except UnreachableError as error:
        print(f"triosmtp: {error}", file=sys.stderr)
        return _EX_UNAVAILABLE
    _print(response, as_json=as_json)
    return response.status


def run_console(path: Path, *, as_json: bool = False) -> int:
    """Run the commands of stdin, one a line, until its end, or ``exit`` or ``quit``.

    Return the exit status: 0 on a terminal, else that of the first command that failed.
    """
    terminal = sys.stdin.isatty()
    if terminal:
        _read_history()
    failed = 0
    try:
        while True:
            line = _next_line() if terminal else sys.stdin.readline()
            if not line or line.strip() in {"exit", "quit"}:
                return 0 if terminal else failed
            status = _run_line(line, path, as_json=as_json)
            failed = failed or status
    finally:
        if terminal:
            _write_history()


def _next_line() -> str:
    """Return the next line, or ``""`` at the end."""
    while True:
        try:
            return input(_PROMPT) + "\n"
        except EOFError:
            print()
            return ""
        except KeyboardInterrupt:  # as in a shell: drop this line
            print()


def _run_line(line: str, path: Path, *, as_json: bool) -> int:
    try:
        words = split_words(line)
    except ValueError as error:
        print(f"triosmtp: {error}", file=sys.stderr)
        return _EX_USAGE
    return run_command(words, path, as_json=as_json) if words else 0


def _print(response: ConsoleResponse, *, as_json: bool) -> None:
    if as_json:
        print(response.encode().decode("ascii"), end="")
    elif response.text:
        print(response.text, file=sys.stderr if response.status else sys.stdout)
    sys.stdout.flush()


def send_command(words: Sequence[str], path: Path) -> ConsoleResponse:
    """Send one command to the server behind the socket at ``path``; return its response.

    :raises UnreachableError: if no server responds.
    """
    try:
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as sock:
            sock.settimeout(_CONNECT_TIMEOUT)
            sock.connect(str(path))
            sock.settimeout(_RESPONSE_TIMEOUT)
            with suppress(BrokenPipeError, ConnectionResetError):  # refused: the response has the reason
                sock.sendall(ConsoleRequest(tuple(words)).encode())
            with sock.makefile("rb") as stream:
                return ConsoleResponse.decode(stream.readline())
    except TimeoutError as error:
        raise UnreachableError(f"{path}: no response") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise UnreachableError(f"{path}: {reason}; is the server running? (--control PATH, -c FILE)") from error
    except ValueError as error:
        raise UnreachableError(f"{path}: the response is not from triosmtp, or incomplete") from error


# History


def _history() -> Path:
    return state_directory() / "console_history"


def _readline() -> Any:
    """Return the module, whose import also enables line editing; None if Python was built without it."""
    try:
        return importlib.import_module("readline")
    except ImportError:
        return None


def _read_history() -> None:
    readline = _readline()
    if readline is None:
        return
    with suppress(OSError, RuntimeError):
        readline.read_history_file(_history())
    readline.set_history_length(_HISTORY_LINES)


def _write_history() -> None:
    """Write the history, readable by its user only; skip it if the file cannot be written."""
    readline = _readline()
    if readline is None:
        return
    with suppress(OSError, RuntimeError):
        path = _history()
        make_directory(path.parent)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
        path.chmod(0o600)
        readline.write_history_file(path)
