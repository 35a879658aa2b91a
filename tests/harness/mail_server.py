"""`triosmtp serve` in a process of its own, which can be killed and started again; and small disks for it."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from serve_process import REPOSITORY, ServeProcess, start_server

from triosmtp.testing import Authority

CONFIGURATION = """
Relay_Domains = ( "example.com" )
Deliver_To = "maildir:{folder}/Maildir"
Spool_Directory = "{folder}/spool"
Banner_Hostname = "mx.example.com"
ESMTP_Listener {{
  TLS_Certificate = "{folder}/server.pem"
  TLS_Key = "{folder}/server.key"
  SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" )
  Listen "127.0.0.1:0" {{ }}
}}
"""


class MailServer:
    """Serves one folder: configuration, certificate, Maildir, spool and log lie in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.maildir = folder / "Maildir"
        self.spool = folder / "spool"
        self.port = 0
        """The port it listens on; another one after each start."""
        self._server: ServeProcess | None = None
        authority = Authority.create()
        authority.issue("localhost", dns=["localhost"]).write(folder, "server")
        self.ca = authority.certificate_pem.decode()
        (folder / "triosmtp.conf").write_text(CONFIGURATION.format(folder=folder))

    def start(self) -> None:
        """Start it, and return when it listens."""
        self._server = start_server("-c", str(self.folder / "triosmtp.conf"), log=self.folder / "log", cwd=REPOSITORY)
        self.port = self._server.port()

    def kill(self) -> None:
        """Send SIGKILL, and return when the process is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop it in good order."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.signal(number)
        server.process.communicate()
        assert server.process.returncode == (0 if number == signal.SIGTERM else -number), self.log

    @property
    def log(self) -> str:
        """All that it wrote to its log, over all starts."""
        return (self.folder / "log").read_text()

    def files(self, name: str) -> list[Path]:
        """Return the files of one folder of the Maildir."""
        return sorted((self.maildir / name).iterdir())


@contextmanager
def serving(folder: Path) -> Iterator[MailServer]:
    """Serve `folder` until the block is left; the log must hold no traceback then."""
    server = MailServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
    assert "Traceback" not in server.log


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[None]:
    """Mount a file system of that size in `place`; skip the test if that is not possible."""
    place.mkdir(mode=0o700)
    _mount("-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(place))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def remount(place: Path, options: str) -> None:
    """Change a file system that `small_disk` mounted: its size, or whether it can be written."""
    _mount("-o", f"remount,{options}", str(place))


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], check=False, capture_output=True)
    if done.returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.decode().strip()}")
