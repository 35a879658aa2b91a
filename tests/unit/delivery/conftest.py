"""Messages to deliver, and disks that fail."""

import logging
import os
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from triosmtp.message import Envelope, Message, Recipient
from triosmtp.message.spool import Body
from triosmtp.smtp.mail_address import Address

MessageMaker = Callable[..., Message]
JOE = Address("joe", "example.com")
ME = Address("me", "example.org")


@pytest.fixture
def make_message() -> MessageMaker:
    def make(
        content: bytes | Body = b"Subject: hello\r\n\r\ntext\r\n",
        recipients: tuple[Address, ...] = (JOE,),
        sender: Address = ME,
        trace: bytes = b"Received: from a by b;\r\n Tue, 03 Feb 2026 04:05:06 +0000\r\n",
    ) -> Message:
        return Message(
            id="s1-1",
            envelope=Envelope(sender, {}, [Recipient(address, {}) for address in recipients]),
            body=content if isinstance(content, Body) else Body(content),
            trace=trace,
            received=datetime.now(UTC),
        )

    return make


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a file system of 64 KiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    place = tmp_path / "disk"
    place.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=False, capture_output=True)
    if mount.returncode:
        pytest.skip(f"no permission to mount: {mount.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "triosmtp.delivery")
    return caplog
