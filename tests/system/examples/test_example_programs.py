"""The examples that are programs: started as their docstrings say, met by a real client."""

import signal
import subprocess
import sys
from pathlib import Path

from example_process import ENVIRONMENT, EXAMPLES, TIMEOUT, commands, running, shell


def test_minimal_server(tmp_path: Path) -> None:
    path = EXAMPLES / "minimal_server.py"
    [send] = commands(path, "curl")
    with running(str(path)) as program:
        done = shell(send.replace("PORT", str(program.port())), tmp_path)
        assert done.returncode == 0, done.stderr
        assert program.line() == "26 bytes from <me@example.org> to you@example.com"
        assert program.signal(signal.SIGINT) == "stopped\n"


def test_inside_trio() -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "inside_trio.py"],
        check=False, env=ENVIRONMENT, capture_output=True, text=True, timeout=TIMEOUT,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "Hello from inside." in done.stdout
    assert done.stdout.splitlines()[0].startswith("<me@example.org> says: ")
    assert done.stdout.splitlines()[-1] == "1 message accepted"


def test_mail_sink_takes_anything_for_anybody(tmp_path: Path) -> None:
    # Without --crlf curl sends the line ends of the file as they are, bare LF, and then a CRLF of its own.
    text = "Subject: grüße\n\nan unix line\nand another\n"
    (tmp_path / "message").write_text(text)
    with running(str(EXAMPLES / "mail_sink.py"), "0") as program:
        url = f"smtp://127.0.0.1:{program.port()}"
        rcpt = "--mail-rcpt you@anywhere.example --mail-rcpt she@elsewhere.example"
        done = shell(f"curl -sS --mail-from me@example.org {rcpt} -T message {url}", tmp_path)
        assert done.returncode == 0, done.stderr
        assert program.line() == "-- from <me@example.org> to <you@anywhere.example>, <she@elsewhere.example>"
        shown = [program.line() for _ in range(6)]
        assert shown == [*text.splitlines(), "", "-- end"]
        assert program.signal(signal.SIGINT) == "stopped\n"
