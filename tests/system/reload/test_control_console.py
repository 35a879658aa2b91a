"""The console, as an operator has it: one command, many on stdin, and a terminal."""

import os
import pty
import select
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_server import DaemonServer, daemon
from serve_process import COMMAND

LISTEN = "127.0.0.1:0"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonServer]:
    listen = 'Listen "127.0.0.1:0" { Peer "10.0.0.0/8" { Idle_Time = 30 } }'
    with daemon(tmp_path_factory.mktemp("console"), listen) as running:
        yield running


def test_shutdown_finishes_the_message_under_way(tmp_path: Path) -> None:
    with daemon(tmp_path, f'Listen "{LISTEN}" {{ }}') as server:
        client = smtplib.SMTP("127.0.0.1", server.port(LISTEN), "me.example.org", 30)
        client.ehlo()
        client.mail("a@example.org")
        assert server.console("shutdown").out == "draining: transactions under way are finished, then the server ends\n"
        assert server.console("config reload").status == 78  # and it can be asked until then
        assert client.rcpt("b@example.com")[0] == 250
        assert client.data(b"Subject: x\r\n\r\ny\r\n")[0] == 250
        client.close()
        assert server.wait() == 0
        assert not Path(server.control).exists()
        result = server.console("show inbound")
        assert (result.status, result.out) == (69, "")
        assert result.err == (
            f"triosmtp: {server.control}: No such file or directory; is the server running? (--control PATH, -c FILE)\n"
        )


def test_many_commands_on_stdin_end_with_the_status_of_the_first_that_failed(server: DaemonServer) -> None:
    result = server.run(
        "console", "--control", server.control, stdin="version\n\nconfig get Idle_Time\n'\nshow inbound\nexit\nhelp\n"
    )
    assert result.status == 1
    assert result.out.splitlines()[-1] == "0 sessions"
    assert result.err.splitlines() == ["Idle_Time is not set in that scope", "triosmtp: No closing quotation"]
    assert not (server.folder / "state" / "console_history").exists()


class Terminal:
    """A terminal that a program runs on.  Output after the expected text is kept for the next call."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._shown = b""

    def type(self, keys: bytes) -> None:
        os.write(self._descriptor, keys)

    def is_silent(self) -> bool:
        """Return whether nothing is shown, and nothing comes for a second."""
        return not self._shown and not select.select([self._descriptor], [], [], 1)[0]

    def read_until(self, wanted: bytes) -> bytes:
        """Return what is shown up to `wanted` and with it; up to the end for `b""`."""
        while not wanted or wanted not in self._shown:
            assert select.select([self._descriptor], [], [], 30)[0], self._shown
            try:
                chunk = os.read(self._descriptor, 4096)
            except OSError:  # the other end of a terminal is gone
                chunk = b""
            if not chunk:
                break
            self._shown += chunk
        end = self._shown.find(wanted) + len(wanted) if wanted else len(self._shown)
        shown, self._shown = self._shown[:end], self._shown[end:]
        return shown


def test_at_a_terminal_it_has_a_prompt_and_a_history_of_its_own(server: DaemonServer) -> None:
    for number in range(2):
        pid, descriptor = pty.fork()
        if pid == 0:
            os.execvpe(COMMAND[0], [*COMMAND, "console", "--control", server.control], server.environment)
        terminal = Terminal(descriptor)
        try:
            assert b"triosmtp> " in terminal.read_until(b"triosmtp> ")
            # The second time the command comes out of the history, by the key for the line before.
            terminal.type(b"\x10\x10\r" if number else b"config eval idle_time\r")
            assert b"Idle_Time = 300  # default" in terminal.read_until(b"# default")
            assert b"triosmtp> " in terminal.read_until(b"triosmtp> ")
            terminal.type(b"\x03")
            while terminal.is_silent():
                # Readline notices a signal that comes just before it begins to wait with the next key only.
                terminal.type(b"\r")
            assert b"triosmtp> " in terminal.read_until(b"triosmtp> ")
            terminal.type(b"quit\r")
            terminal.read_until(b"")
            assert os.waitpid(pid, 0)[1] == 0
        finally:
            os.close(descriptor)
        history = server.folder / "state" / "console_history"
        assert history.stat().st_mode & 0o777 == 0o600
        assert "config eval idle_time" in history.read_text().splitlines()
