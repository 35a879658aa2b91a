"""Debian's Dovecot as an authentication service, alone: no mailbox, no network."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import pytest
from attrs import define
from mail_client import TIMEOUT, need

_CONF = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = /dev/stderr
protocols =
ssl = no
auth_mechanisms = plain login cram-md5 digest-md5 scram-sha-256 external
auth_ssl_username_from_cert = yes
auth_failure_delay = 0
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
passdb {{
  driver = passwd-file
  mechanisms = external
  args = {folder}/certificates
}}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {folder}/users
}}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home=/
}}
service auth {{
  unix_listener auth-client {{
    mode = 0666
  }}
  user = root
  chroot =
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
"""
USERS = "joe:{PLAIN}correct horse\nbarred:{PLAIN}correct horse::::::nologin reason=moved\n"
CERTIFICATES = "client.example:::::::nopassword=y\n"


@define
class Dovecot:
    """Its folder, and its process while it runs."""

    folder: Path
    process: "subprocess.Popen[str] | None" = None

    @property
    def socket(self) -> Path:
        return self.folder / "run" / "auth-client"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = [need("dovecot"), "-F", "-c", str(self.folder / "dovecot.conf")]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        assert self.process.stderr is not None
        guard = Timer(TIMEOUT, self.process.kill)
        guard.start()
        try:
            lines = []
            for line in self.process.stderr:
                lines.append(line)
                if "starting up" in line:
                    return
        finally:
            guard.cancel()
        raise AssertionError(f"dovecot has not started: {lines}")

    def kill(self) -> None:
        """Kill it and all of its processes."""
        self.send(signal.SIGKILL)
        assert self.process is not None
        self.process.communicate(timeout=TIMEOUT)
        self.process = None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to all of its processes."""
        assert self.process is not None
        os.killpg(self.process.pid, number)


@contextmanager
def dovecot_auth() -> Iterator[Dovecot]:
    """Run a Dovecot until the block is left."""
    need("dovecot")
    if os.geteuid() != 0:
        pytest.skip("dovecot must be started by root")
    folder = Path(tempfile.mkdtemp(prefix="triosmtp-dovecot-"))
    try:
        folder.chmod(0o755)
        (folder / "users").write_text(USERS)
        (folder / "certificates").write_text(CERTIFICATES)
        (folder / "dovecot.conf").write_text(_CONF.format(folder=folder))
        dovecot = Dovecot(folder)
        dovecot.start()
        try:
            yield dovecot
        finally:
            if dovecot.process is not None:
                dovecot.kill()
    finally:
        shutil.rmtree(folder)
