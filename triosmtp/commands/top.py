"""The command ``triosmtp top``: the overview of the status page, in a terminal.

Only printable characters of a peer's text reach the terminal, so that none can move the cursor or ring the bell.
"""

import os
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from triosmtp.commands.top_screen import fit, render
from triosmtp.control.console_client import UnreachableError, send_command

__all__ = ["top_command"]

_EX_UNAVAILABLE: Final = 69
_ENTER: Final = "\x1b[?1049h\x1b[?25l"
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_REST_OF_LINE: Final = "\x1b[K"
_REST_OF_SCREEN: Final = "\x1b[J"


def top_command(path: Path, *, once: bool, interval: float) -> int:
    """Show the overview until ``q``; with ``once``, print it once.  Return the exit status.

    Keys: ``q`` ends, ``/`` begins a filter of the sessions, Return or Escape ends typing it.
    """
    try:
        if once or not (sys.stdin.isatty() and sys.stdout.isatty()):
            print("\n".join(render(_overview(path), *shutil.get_terminal_size((120, 50)))))
            return 0
        with _screen():
            _watch(path, interval)
    except UnreachableError as error:
        print(f"triosmtp: {error}", file=sys.stderr)
        return _EX_UNAVAILABLE
    except KeyboardInterrupt:
        pass
    return 0


def _overview(path: Path) -> Mapping[str, Any]:
    response = send_command(["overview"], path)
    if response.status or not isinstance(response.data, dict):
        raise UnreachableError(response.text)
    return response.data


@contextmanager
def _screen() -> Iterator[None]:
    """Switch to the terminal's alternate screen without echo; restore both in the end."""
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        sys.stdout.write(_ENTER)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()


def _watch(path: Path, interval: float) -> None:
    wanted, typing, value = "", False, _overview(path)
    due = time.monotonic() + interval
    while True:
        columns, lines = shutil.get_terminal_size()
        prompt = f"filter: {wanted}{'_' if typing else ''}" if typing or wanted else "q ends, / filters the sessions"
        shown = [*render(value, columns, lines - 1, wanted), fit(prompt, columns)]
        sys.stdout.write(_HOME + f"{_REST_OF_LINE}\r\n".join(shown) + _REST_OF_LINE + _REST_OF_SCREEN)
        sys.stdout.flush()
        if select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
            key = os.read(sys.stdin.fileno(), 32).decode("utf-8", "ignore")
            for each in [key] if key.startswith("\x1b") else key:  # a sequence is one key
                if not typing and each == "q":
                    return
                wanted, typing = _typed(each, wanted, typing=typing)
        if time.monotonic() >= due:
            value, due = _overview(path), time.monotonic() + interval


def _typed(key: str, wanted: str, *, typing: bool) -> tuple[str, bool]:
    if not typing:
        return ("", True) if key == "/" else (wanted, False)
    if key in {"\r", "\n"}:
        return wanted, False
    if key.startswith("\x1b"):
        return "", False
    if key in {"\x7f", "\b"}:
        return wanted[:-1], True
    return (wanted + key if key.isprintable() else wanted)[:60], True
