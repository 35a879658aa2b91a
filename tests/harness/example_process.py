"""An example, run as a user would run it: in a process of its own; and the commands that it tells users to type."""

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import pytest
from serve_process import REPOSITORY, environment_of

EXAMPLES = REPOSITORY / "examples"
ENVIRONMENT = environment_of(PYTHONUNBUFFERED="1")
TIMEOUT = 30.0


class Program:
    """A program that runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def line(self) -> str:
        """Read a line that it prints, without its end."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def port(self) -> int:
        """Read the line that names the port."""
        line = self.line()
        match = re.search(r" port (\d+)$", line)
        assert match, line
        return int(match[1])

    def signal(self, number: int) -> str:
        """Send a signal, wait for the end, which must be a success, and return the last output."""
        self._process.send_signal(number)
        assert self._process.stdout is not None
        out = self._process.stdout.read()
        assert self._process.wait() == 0, out
        assert "Traceback" not in out
        return out


@contextmanager
def running(*command: str) -> Iterator[Program]:
    """Run `python COMMAND`; what it says on either output can be read."""
    with subprocess.Popen(
        [sys.executable, *command],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # As from a terminal: a shell without one starts its background jobs with SIGINT ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads to fear yet
    ) as process:
        guard = Timer(TIMEOUT, process.kill)
        guard.start()
        try:
            yield Program(process)
        finally:
            guard.cancel()
            process.kill()


def shell(command: str, folder: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command; skip the test without the programs that it names, but fail if CI is set."""
    for program in re.findall(r"(?:^|\| )(\w+)", command):
        if shutil.which(program) is None:
            message = f"{program} is not installed"
            if os.environ.get("CI"):
                pytest.fail(message)
            pytest.skip(message)
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        check=False, cwd=folder, input=given, capture_output=True, text=True, timeout=TIMEOUT,
    )  # fmt: skip


def commands(path: Path, program: str) -> list[str]:
    """Return the commands in a program's docstring, or in a configuration's comments, that hold `program`."""
    if path.suffix == ".py":
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
    else:
        text = "\n".join(line[2:] for line in path.read_text().splitlines() if line.startswith("# "))
    indented = re.findall(r"^ +(.*)$", text.replace("\\\n", " "), re.MULTILINE)
    found = [command for command in indented if re.search(rf"\b{program}\b", command)]
    assert found, f"{path} does not tell how to use {program}"
    return found
