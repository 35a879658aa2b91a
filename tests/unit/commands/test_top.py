"""`triosmtp top` in a terminal."""

import fcntl
import os
import pty
import re
import select
import smtplib
import socket
import struct
import subprocess
import termios
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from chromium import TIMEOUT
from page_server import BROKEN, Site, serving


def test_top_in_a_terminal(tmp_path: Path) -> None:
    with serving(tmp_path) as site:
        subprocess.run(site.top("--once"), check=True, capture_output=True)  # from now on it is watched
        with site.session("stranger") as evil:
            evil.docmd("VRFY", "\x1b[2Jx")
            once = subprocess.run(site.top("--once"), check=True, capture_output=True, text=True).stdout
            assert "localhost" in once
            assert "SOON" in once
            assert re.search(r"127\.0\.0\.1:\d+ .*TLSv1\.3 ", once)
            assert "\x1b" not in once
            main, worker = pty.openpty()
            environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
            process = subprocess.Popen(
                site.top("--interval", "0.2"), stdin=worker, stdout=worker, stderr=worker, env=environment
            )
            os.close(worker)
            screen = read_until(main, lambda seen: seen.count("\x1b[H") >= 3)
            frame = screen.split("\x1b[H")[-2]
            assert frame.count("\r\n") <= 23
            shown = [re.sub(r"\x1b\[[?0-9]*[A-Za-z]", "", line).strip("\r") for line in frame.split("\r\n")]
            assert max(map(len, shown)) <= 80, shown
            assert "\x1b[2J" not in screen
            os.write(main, b"/nobody-of-that-name\r")
            read_until(main, lambda seen: "filter: nobody-of-that-name\x1b" in seen)
            os.write(main, b"q")
            rest = read_until(main, lambda seen: "\x1b[?1049l" in seen)
            assert rest.endswith("\x1b[?1049l")
            assert process.wait(TIMEOUT) == 0
            os.close(main)
    done = subprocess.run(site.top("--once"), check=False, capture_output=True, text=True)
    assert done.returncode == 69
    assert "is the server running?" in done.stderr


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (200, 60), (40, 8)])
def test_the_whole_screen_is_used_and_no_more(tmp_path: Path, columns: int, lines: int) -> None:
    more = "Max_Command_Errors = 0 Max_Refused_Recipients = 0 Workers = 2"
    names = [f"mx{number}.example.org" for number in range(38)]
    with serving(tmp_path, more=more, names=names) as site:
        subprocess.run(site.top("--once"), check=True, capture_output=True)  # from now on it is watched
        for number in range(40):
            site.refuse(f"192.0.2.{number}", 25, "\uff57\uff49\uff44\uff45" if number == 38 else "number")
        with site.session(listen=BROKEN) as smtp, pytest.raises(smtplib.SMTPDataError):
            smtp.sendmail("a@sender.example", ["b@example.com"], "")
        sessions = [site.session() for _ in range(20)]
        (tmp_path / "server.pem").write_text("junk")
        wait_until(lambda: "NOT IN FORCE" in shown_once(site))
        screen = frame_of(site, columns, lines)
        for smtp in sessions:
            smtp.quit()
    assert len(screen) == lines
    assert all(screen), screen
    assert max(map(width, screen)) <= columns
    assert socket.gethostname()[:10] in screen[0]
    text = "\n".join(screen)
    assert "NOT IN FORCE" in text
    assert "refused 1001/min" in text or columns < 60
    if lines >= 24:
        assert re.search(r"\d\d:\d\d:\d\d +x25  192\.0\.2\.39:40000", text)
        assert "In force: CN=localhost until" in " ".join(text.split())
        assert "localhost" in text
        assert " more" in text
        assert "452 Mailbox full" in text
        assert "=1,001" in text
    if lines >= 60:
        assert re.search(r"127\.0\.0\.2:0 +0 +0 +1000 +0 +0 +0 +1000\n", text)
        assert len(re.findall(r"worker [12]: process \d+, ready", text)) == 2
        assert text.count("verified: CN=client") > 15
        assert text.count("rcptto  550 relaying denied") > 15


def shown_once(site: Site) -> str:
    return subprocess.run(site.top("--once"), check=True, capture_output=True, text=True).stdout


def wait_until(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT
    while not ready():
        assert time.monotonic() < end


def width(line: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(each) in "WF") for each in line)


def frame_of(site: Site, columns: int, lines: int) -> list[str]:
    """Return what is on the screen of a terminal of that size."""
    main, worker = pty.openpty()
    fcntl.ioctl(worker, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    command = site.top("--interval", "0.2")
    with subprocess.Popen(command, stdin=worker, stdout=worker, stderr=worker, env={**environment, "TERM": "xterm"}):
        os.close(worker)
        seen = read_until(main, lambda seen: seen.count("\x1b[H") >= 3)
        os.write(main, b"q")
        read_until(main, lambda seen: "\x1b[?1049l" in seen)
        os.close(main)
    frame = seen.split("\x1b[H")[-2]
    return [re.sub(r"\x1b\[[?0-9]*[A-Za-z]", "", line).strip("\r") for line in frame.split("\r\n")]


def read_until(terminal: int, enough: Callable[[str], bool]) -> str:
    seen, end = "", time.monotonic() + TIMEOUT
    while not enough(seen):
        assert select.select([terminal], [], [], max(0.0, end - time.monotonic()))[0], seen
        seen += os.read(terminal, 65536).decode("utf-8", "replace")
    return seen
