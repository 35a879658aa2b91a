"""The console: the operator's side of the control socket, for one command or many."""

import importlib
import json
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from triosmtp.control.console_protocol import Answer, split_words
from triosmtp.state import make_directory, state_directory

__all__ = ["UnreachableError", "ask", "run_command", "run_console"]

_EX_USAGE: Final = 64
_EX_UNAVAILABLE: Final = 69
_CONNECT_TIMEOUT: Final = 5.0
_ANSWER_TIMEOUT: Final = 120.0  # a reload reads many files
_PROMPT: Final = "triosmtp> "
_KEPT_LINES: Final = 1000


class UnreachableError(Exception):
    """No server answers; the text says where, and why."""


def run_command(words: Sequence[str], place: Path, *, as_json: bool = False) -> int:
    """Let the server behind the socket at ``place`` carry out one command, print the answer, give the exit status."""
    try:
        answer = ask(words, place)
    except UnreachableError as error:
        print(f"triosmtp: {error}", file=sys.stderr)
        return _EX_UNAVAILABLE
    _print(answer, as_json=as_json)
    return answer.status


def run_console(place: Path, *, as_json: bool = False) -> int:
    """Carry out what is typed, or comes on stdin, line by line, to its end, or to ``exit`` or ``quit``.

    From a terminal, gives 0; else the status of the first command that failed.
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
            status = _run_line(line, place, as_json=as_json)
            failed = failed or status
    finally:
        if terminal:
            _write_history()


def _next_line() -> str:
    """Give the next line, or ``""`` at the end."""
    while True:
        try:
            return input(_PROMPT) + "\n"
        except EOFError:
            print()
            return ""
        except KeyboardInterrupt:  # as in a shell: forget this line
            print()


def _run_line(line: str, place: Path, *, as_json: bool) -> int:
    try:
        words = split_words(line)
    except ValueError as error:
        print(f"triosmtp: {error}", file=sys.stderr)
        return _EX_USAGE
    return run_command(words, place, as_json=as_json) if words else 0


def _print(answer: Answer, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"status": answer.status, "text": answer.text, "data": answer.data}))
    elif answer.text:
        print(answer.text, file=sys.stderr if answer.status else sys.stdout)
    sys.stdout.flush()


def ask(words: Sequence[str], place: Path) -> Answer:
    """Let the server behind the socket at ``place`` carry out one command; give its answer.

    :raises UnreachableError: where none answers.
    """
    request = json.dumps({"words": list(words)}).encode("ascii") + b"\n"
    try:
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as sock:
            sock.settimeout(_CONNECT_TIMEOUT)
            sock.connect(str(place))
            sock.settimeout(_ANSWER_TIMEOUT)
            with suppress(BrokenPipeError, ConnectionResetError):  # turned away: the answer says why
                sock.sendall(request)
            with sock.makefile("rb") as stream:
                line = stream.readline()
        value = json.loads(line)
        return Answer(str(value["text"]), value["data"], int(value["status"]))
    except TimeoutError as error:
        raise UnreachableError(f"{place}: no answer") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise UnreachableError(f"{place}: {reason}; is it running? (--control PATH, -c FILE)") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UnreachableError(f"{place}: what answers is not triosmtp, or was cut off") from error


# History


def _history() -> Path:
    return state_directory() / "console_history"


def _readline() -> Any:
    """Give the module, which also edits lines from when it is imported; None where Python was built without it."""
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
    readline.set_history_length(_KEPT_LINES)


def _write_history() -> None:
    """Keep what was typed, for its user alone; where that cannot be, nothing is kept."""
    readline = _readline()
    if readline is None:
        return
    with suppress(OSError, RuntimeError):
        path = _history()
        make_directory(path.parent)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
        path.chmod(0o600)
        readline.write_history_file(path)
