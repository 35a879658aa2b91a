"""A disk that is slower than Drain_Timeout: what it has stored in the end is answered 250, and nothing comes twice."""

import os
import signal
import time
from pathlib import Path

import pytest
from serve_process import REPOSITORY
from worker_service import workers

JUDGE = os.environ.get("TRIOSMTP_JUDGE") == "1"
SLOW = """
import os

_fsync = os.fsync

def fsync(descriptor):
    _fsync(descriptor)
    if os.readlink(f"/proc/self/fd/{descriptor}").endswith("/Maildir/new"):
        for name in (".began", ".ends"):
            os.close(os.open(os.environ["SLOW_DISK"] + name, os.O_RDONLY))

os.fsync = fsync
"""
"""Each process runs this first (site.py).  A FIFO is opened when somebody opens its other end."""


def open_other_end(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY))


@pytest.mark.parametrize("number", [1, 2])
def test_a_message_that_is_stored_after_the_drain_is_answered(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SLOW)
    for name in (".began", ".ends"):
        os.mkfifo(tmp_path / f"disk{name}")
    monkeypatch.setenv("SLOW_DISK", str(tmp_path / "disk"))
    path = {"PYTHONPATH": f"{tmp_path / 'site'}:{REPOSITORY}"}
    with workers(tmp_path, f"Workers = {number} Drain_Timeout = 0.1", environment=path) as service:
        # The first and the third have the same worker, if there are two.
        client, *others = (service.session() for _ in range(3))
        for each in (client, *others):
            assert each.mail("a@example.org")[0] == 250
        assert client.rcpt("b@example.com")[0] == 250
        assert client.docmd("DATA")[0] == 354
        client.send(b"X-Id: 1\r\n\r\nx\r\n.\r\n")
        open_other_end(tmp_path / "disk.began")  # the message has its name in new/
        service.process.send_signal(signal.SIGTERM)
        for each in others:
            assert each.getreply()[0] == 421, "Drain_Timeout is over"
        if JUDGE:
            time.sleep(12)  # and the last deadline of all other sessions
        open_other_end(tmp_path / "disk.ends")
        assert client.getreply()[0] == 250
        assert client.getreply()[0] == 421
        assert service.process.wait(60) == 0
        service.read_log_to_its_end()
        assert [each["event"] for each in service.log].count("accepted") == 1, service.log
    assert service.stored() == {"1"}
