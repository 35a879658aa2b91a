"""The compose file is run if Docker runs and has the images, and at full size only."""

import os
import re
import shutil
import smtplib
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fortress import JUDGE
from serve_process import REPOSITORY

from triosmtp.testing import Authority

FLEET = REPOSITORY / "examples/fleet"
USER = 10025
"""The user of the image, who reads the folder tls."""
LONGEST = 300.0
TOKEN = "0123456789abcdef" * 2
SERVICES = {
    "haproxy",
    "policy",
    "redis",
    *(f"{name}{number}" for name in ("mx", "n") for number in (1, 2, 3)),
    "c1",
    "c2",
}


class Containers:
    """The services of the compose file, as a project of their own, in a copy of the folder."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(FLEET, folder, ignore=shutil.ignore_patterns("__pycache__", "tls"))
        self._folder = folder
        self._context = ssl.create_default_context()
        self._make_secrets(folder / "tls")

    def _make_secrets(self, folder: Path) -> None:
        folder.mkdir()
        authority = Authority.create()
        self._context.load_verify_locations(cadata=authority.certificate_pem.decode())
        issued = authority.issue("mx.example.org", dns=["mx.example.org"])
        for name, text in (
            ("mx.example.org.pem", issued.certificate_pem + issued.key_pem),
            ("status-token", TOKEN.encode()),
        ):
            (folder / name).touch(mode=0o600)
            (folder / name).write_bytes(text)
            os.chown(folder / name, USER, USER)
        (folder.parent / ".env").write_text(f"STATUS_TOKEN={TOKEN}\nSMTP_PORT=127.0.0.1:0\n")

    def run(self, *arguments: str) -> str:
        """Run `docker compose`, and return what it prints."""
        command = ["docker", "compose", "-p", "triosmtp-test", *arguments]
        done = subprocess.run(
            command, cwd=self._folder, capture_output=True, text=True, check=False, timeout=LONGEST,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def send(self, subject: str) -> None:
        """Send a message through HAProxy, until it is answered 250."""
        port = int(self.run("port", "haproxy", "2525").rpartition(":")[2])
        until = time.monotonic() + LONGEST
        while True:
            try:
                with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
                    client._host = "mx.example.org"  # type: ignore[attr-defined]  # what smtplib verifies
                    client.starttls(context=self._context)
                    client.sendmail("a@example.net", ["b@example.org"], f"Subject: {subject}\r\n\r\ntext\r\n")
                    return
            except (OSError, smtplib.SMTPException):
                assert time.monotonic() < until, self.run("logs")

    def subjects(self) -> list[str]:
        """Return the subjects of what is in the Maildir, once for each file."""
        text = self.run("exec", "c1", "sh", "-c", "cat /var/lib/triosmtp/Maildir/new/*")
        return sorted(re.findall(r"^Subject: (.*)$", text, re.MULTILINE))

    def wait_for(self, subjects: list[str]) -> None:
        """Wait until the Maildir has exactly these."""
        until = time.monotonic() + LONGEST
        while (found := self.subjects()) != sorted(subjects):
            assert time.monotonic() < until, found


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[Containers]:
    if not JUDGE:
        pytest.skip("the compose file is run at full size only")
    if os.geteuid() != 0 or shutil.which("docker") is None:
        pytest.skip("Docker is not installed, or the user is not root")
    made = Containers(tmp_path / "fleet")
    for command in (["info"], ["compose", "version"], ["image", "inspect", "triosmtp", *_images()]):
        if subprocess.run(["docker", *command], capture_output=True, check=False, timeout=LONGEST).returncode:
            pytest.skip(f"docker {command[0]} fails: Docker does not run, or does not have the images")
    try:
        made.run("up", "--detach", "--build", "--pull", "never")
        yield made
    finally:
        made.run("down", "--volumes", "--timeout", "5")


def _images() -> list[str]:
    text = (FLEET / "compose.yaml").read_text()
    return [image for image in re.findall(r"^ +image: (\S+)", text, re.MULTILINE) if "/" in image]


def test_mail_passes_while_containers_end(containers: Containers) -> None:
    containers.send("first")
    assert set(containers.run("ps", "--services", "--status", "running").split()) == SERVICES
    containers.run("restart", "mx1")
    containers.send("node")
    containers.run("restart", "n1")
    containers.send("stream")
    containers.run("stop", "c1")
    containers.send("consumer")
    containers.run("start", "c1")
    volumes = _volumes()
    containers.run("down")
    containers.run("up", "--detach", "--pull", "never")
    containers.send("all")
    containers.wait_for(["first", "node", "stream", "consumer", "all"])
    statuses = containers.run("ps", "--all", "--format", "{{.Service}} {{.Health}}")
    assert "unhealthy" not in statuses, statuses
    assert _volumes() == volumes, "a volume without a name is left"


def _volumes() -> str:
    done = subprocess.run(["docker", "volume", "ls", "--quiet"], capture_output=True, text=True, check=True)
    return done.stdout
