"""The session that README shows is one that really takes place."""

import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from triosmtp.testing import Controller

README = (Path(__file__).parents[3] / "README.md").read_text()


def test_readme_shows_the_reply_to_a_certificate_that_failed(tmp_path: Path) -> None:
    block = re.search(r"^```console\n\$ ([^\n]*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert block is not None
    command, shown = block[1].split(), block[2].splitlines()
    with Controller("TLS_Require_Verified = true", tls=True) as server:
        assert server.authority is not None
        past = datetime.now(UTC) - timedelta(days=1)
        server.authority.issue("mail.partner.example", not_after=past).write(tmp_path, "expired")
        command[command.index("mx.example.com")] = f"localhost:{server.port}"
        command += ["--ehlo", "mail.partner.example"]
        done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
        assert server.messages == []
    lines = iter(done.stdout.splitlines())
    assert [line for line in shown if line not in lines] == []  # all of them, in this order
    assert "certificate has expired" in "".join(shown)
