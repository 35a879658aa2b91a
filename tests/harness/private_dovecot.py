"""A Dovecot of our own whose lmtpd has a Unix socket: its folders lie in a temporary folder."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import frozen
from mail_client import TIMEOUT, need
from serve_process import wait_for_log

_CONFIGURATION = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = lmtp
ssl = no
default_internal_user = mail
default_internal_group = mail
default_login_user = mail
first_valid_uid = 1
first_valid_gid = 1
mail_plugins = quota
plugin {{
  quota = count:User quota
  quota_vsizes = yes
}}
mailbox_list_index = yes
userdb {{
  driver = passwd-file
  args = username_format=%Lu {folder}/users
}}
passdb {{
  driver = passwd-file
  args = username_format=%Lu {folder}/users
}}
service lmtp {{
  process_limit = 200
  unix_listener {folder}/lmtp {{
    mode = 0666
  }}
}}
service anvil {{
  chroot =
}}
lmtp_save_to_detail_mailbox = no
lmtp_rcpt_check_quota = no
quota_full_tempfail = no
"""

USERS = ("a", "b", "c", "full")
"""The users of example.com; ``full`` has a quota of one octet."""


@frozen
class Dovecot:
    """A running Dovecot."""

    folder: Path

    @property
    def socket(self) -> Path:
        """The Unix socket of its lmtpd."""
        return self.folder / "lmtp"

    def messages(self, user: str) -> list[bytes]:
        """Return the messages that a user of example.com has, in no order."""
        box = self.folder / "mail" / user / "new"
        return [path.read_bytes() for path in box.iterdir()] if box.exists() else []

    def clear(self) -> None:
        """Remove all messages."""
        for user in USERS:
            for path in (self.folder / "mail" / user / "new").glob("*"):
                path.unlink()


@contextmanager
def running_dovecot() -> Iterator[Dovecot]:
    """Run a Dovecot until the block is left."""
    program = need("dovecot")
    if os.geteuid() != 0:
        pytest.skip("dovecot must be started by root")
    folder = Path(tempfile.mkdtemp(prefix="triosmtp-dovecot-"))
    folder.chmod(0o755)
    try:
        with _started(program, _configure(folder)):
            yield Dovecot(folder)
    finally:
        shutil.rmtree(folder)


def _configure(folder: Path) -> Path:
    mail = pwd.getpwnam("mail")
    lines = []
    for user in USERS:
        home = folder / "mail" / user
        home.mkdir(parents=True)
        os.chown(home, mail.pw_uid, mail.pw_gid)
        quota = " userdb_quota_rule=*:bytes=1" if user == "full" else ""
        fields = f"{mail.pw_uid}:{mail.pw_gid}::{home}::userdb_mail=maildir:{home}{quota}"
        lines.append(f"{user}@example.com:{{PLAIN}}unused:{fields}\n")
    os.chown(folder / "mail", mail.pw_uid, mail.pw_gid)
    (folder / "users").write_text("".join(lines))
    (folder / "users").chmod(0o644)
    configuration = folder / "dovecot.conf"
    configuration.write_text(_CONFIGURATION.format(folder=folder))
    return configuration


@contextmanager
def _started(program: str, configuration: Path) -> Iterator[None]:
    command = [program, "-F", "-c", str(configuration)]
    log = configuration.parent / "log"
    log.touch()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for_log(log, "starting up")
            yield
        finally:
            process.terminate()
            process.wait(TIMEOUT)
