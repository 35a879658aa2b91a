"""The commands of docs/getting-started.md, typed in its order by a user without privileges and with an empty home."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from embedded_ports import ports_of_one_run, skip_or_fail
from serve_process import REPOSITORY, TIMEOUT, wait_for_log

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGE = FENCE.findall((REPOSITORY / "docs" / "getting-started.md").read_text())
INSTALL = ["python3 -m venv .venv", ".venv/bin/pip install '.[status]'"]
NOBODY = 65534
AS_NOBODY: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}


def can_run_as_nobody() -> bool:
    """Return whether another user can read Python and the source tree; in a private folder of root it cannot."""
    command = [sys.executable, "-c", "import triosmtp.cli"]
    try:
        done = subprocess.run(command, check=False, cwd=REPOSITORY, stderr=subprocess.DEVNULL, **AS_NOBODY)
    except PermissionError:  # the interpreter itself
        return False
    return done.returncode == 0


class Terminal:
    """A folder like the source tree after installation, and a shell of that user in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = ""
        self._home = folder / "home"
        self._server: subprocess.Popen[bytes] | None = None
        self._starts = 0
        program = folder / ".venv" / "bin" / "triosmtp"
        program.parent.mkdir(parents=True)
        program.write_text(f'#!/bin/sh\nPYTHONPATH="{REPOSITORY}" exec "{sys.executable}" -m triosmtp "$@"\n')
        program.chmod(0o755)
        self._home.mkdir()
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0 and can_run_as_nobody():
            for path in (folder, self._home):
                os.chown(path, NOBODY, NOBODY)
            self._user = AS_NOBODY
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(self._home), "PYTHONDONTWRITEBYTECODE": "1"}

    def type(self, command: str) -> None:
        """Run one command of the page; a command that serves stays in the background."""
        if ".venv/bin/triosmtp serve" in command:
            self.stop()
            self._starts += 1
            log = self.folder / f"log{self._starts}"
            with log.open("wb") as stderr:
                words = ["sh", "-c", f"exec {command}"]
                self._server = subprocess.Popen(words, stderr=stderr, stdout=subprocess.DEVNULL, **self._options())
            wait_for_log(log, '"serving"')
            return
        done = subprocess.run(
            ["sh", "-c", command], check=False, capture_output=True, text=True, timeout=TIMEOUT, **self._options()
        )
        self.output = done.stdout + done.stderr
        refused = "untrusted" in command  # swaks reports the refusal in its exit status
        assert (done.returncode != 0) == refused, f"{command}\n{self.output}"

    def stop(self) -> None:
        """End the server as Ctrl-C does, if it runs."""
        if self._server is not None:
            self._server.send_signal(2)
            assert self._server.wait(TIMEOUT) == 0
            self._server = None

    def kill(self) -> None:
        """End the server after a failed test."""
        if self._server is not None:
            self._server.kill()
            self._server.wait(TIMEOUT)

    def _options(self) -> dict[str, Any]:
        return {"cwd": self.folder, "env": self._environment, "stdin": subprocess.DEVNULL, **self._user}


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    if shutil.which("swaks") is None:
        skip_or_fail("swaks is not installed")
    # Not pytest's folder, which only its owner can enter.
    with ports_of_one_run(9464), tempfile.TemporaryDirectory(prefix="triosmtp-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        terminal = Terminal(folder)
        try:
            yield terminal
        finally:
            terminal.kill()


def commands(block: str) -> list[str]:
    """Return the commands of a block; a command may continue on the next line."""
    return block.replace("\\\n", " ").splitlines()


def test_every_command_of_the_page_works_and_replies_as_shown(terminal: Terminal) -> None:
    typed: list[str] = []
    shown = 0
    for language, block in PAGE:
        if language == "sh":
            for command in commands(block):
                typed.append(command)
                if command not in INSTALL:
                    terminal.type(f"{command} --once" if command.endswith(" top") else command)
        elif language == "text":
            shown += 1
            beginning = block.rstrip("\n").partition("…")[0]
            assert any(line.startswith(beginning) for line in terminal.output.splitlines()), terminal.output
    terminal.stop()
    assert typed[:2] == INSTALL
    assert [each for each in typed if " serve" in each] == [
        ".venv/bin/triosmtp serve", ".venv/bin/triosmtp serve -c my.conf",
    ]  # fmt: skip
    assert shown == 2
