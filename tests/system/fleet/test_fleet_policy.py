"""The policy client of the fleet."""

import sys
from pathlib import Path

from policy_server import Service, running, wait_until
from serve_process import REPOSITORY

POLICY = REPOSITORY / "examples/fleet/policy.py"


def test_a_node_that_is_down_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    """It is the first in the list, and the client is not "ready" until it has been there."""
    service = Service(tmp_path)
    service.conf.write_text(service.conf.read_text().replace("websocket:fraud", "websocket:fleet"))
    command = [sys.executable, str(POLICY), "-", f"unix:{tmp_path}/down", f"unix:{tmp_path}/policy.sock"]
    with service.serving(), running(command, tmp_path, "policy"):
        wait_until(tmp_path, lambda: "policy-client-connected" in (tmp_path / "serve.err").read_text())
        with service.smtp() as session:
            assert session.docmd("MAIL FROM:<a@example.org>")[0] == 250
            assert session.docmd("RCPT TO:<nobody@example.com>") == (550, b"5.1.1 This is nobody's address")
