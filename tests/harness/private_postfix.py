"""A Postfix of our own: its folders lie in a temporary folder, its log is a pipe, none of the system's is touched."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import pytest
from attrs import frozen
from mail_client import TIMEOUT, Identity, Outcome, Version, need
from stanza_server import Letter

_MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = /dev/stdout
maillog_file_prefixes = /dev/stdout
myhostname = postfix.example.org
mydestination =
inet_protocols = ipv4
smtp_host_lookup = native
smtp_dns_support_level = disabled
smtp_tls_security_level = encrypt
smtp_tls_CAfile = {folder}/ca.pem
default_transport = discard:
transport_maps = texthash:{folder}/transport
"""

_MASTER = """\
pickup    unix      n  -  n  60    1  pickup
cleanup   unix      n  -  n  -     0  cleanup
qmgr      unix      n  -  n  300   1  qmgr
tlsmgr    unix      -  -  n  1000? 1  tlsmgr
rewrite   unix      -  -  n  -     -  trivial-rewrite
bounce    unix      -  -  n  -     0  bounce
defer     unix      -  -  n  -     0  bounce
trace     unix      -  -  n  -     0  bounce
proxymap  unix      -  -  n  -     -  proxymap
error     unix      -  -  n  -     -  error
retry     unix      -  -  n  -     -  error
discard   unix      -  -  n  -     -  discard
anvil     unix      -  -  n  -     1  anvil
postlog   unix-dgram n  -  n  -     1  postlogd
"""


@frozen
class Route:
    """Mail for one domain goes to a port with a certificate, over one TLS version."""

    domain: str
    port: int
    identity: Identity | None
    version: Version
    options: tuple[str, ...] = ()
    """More settings of its smtp client, as ``name=value``."""

    @property
    def service(self) -> str:
        """The line of master.cf for this route."""
        only = f"smtp_tls_mandatory_protocols=>={self.version},<={self.version}"
        lines = [f"{self.domain} unix - - n - - smtp", f"  -o {only}", f"  -o syslog_name={self.domain}"]
        if self.identity is not None:
            lines += [f"  -o smtp_tls_cert_file={self.identity.certificate}"]
            lines += [f"  -o smtp_tls_key_file={self.identity.key}"]
        lines += [f"  -o {option}" for option in self.options]
        return "\n".join([*lines, ""])


class Postfix:
    """A running Postfix."""

    def __init__(self, configuration: Path, process: subprocess.Popen[str]) -> None:
        self._configuration = configuration
        self._process = process
        self.log = ""

    def send(self, letter: Letter) -> Outcome:
        """Pass a message to its sendmail, and wait until its smtp client is done with it."""
        command = [need("sendmail"), "-C", str(self._configuration), "-f", letter.sender, letter.recipient]
        subprocess.run(command, check=True, input=letter.text, text=True, timeout=TIMEOUT)
        line = self.wait_for(rf"to=<{re.escape(letter.recipient)}>.* status=")
        return Outcome("status=sent" in line, line)

    def wait_for(self, pattern: str) -> str:
        """Read the log up to a line that matches."""
        assert self._process.stdout is not None
        guard = Timer(TIMEOUT, self._process.kill)
        guard.start()
        try:
            for line in self._process.stdout:
                self.log += line
                if re.search(pattern, line):
                    return line
        finally:
            guard.cancel()
        raise AssertionError(f"no line matches {pattern} in Postfix's log:\n{self.log}")


@contextmanager
def running_postfix(ca: Path, routes: Iterable[Route]) -> Iterator[Postfix]:
    """Run a Postfix with these routes until the block is left."""
    program = need("postfix")
    if os.geteuid() != 0:
        pytest.skip("postfix must be started by root")
    # Its daemons are not root: they need a folder that they can enter, which pytest's own are not.
    folder = Path(tempfile.mkdtemp(prefix="triosmtp-postfix-"))
    folder.chmod(0o755)
    try:
        with _started(program, _configure(folder, ca, routes)) as postfix:
            yield postfix
    finally:
        shutil.rmtree(folder)


@contextmanager
def running_smtpd(port: int, options: Iterable[str], master: str = "") -> Iterator[Postfix]:
    """Run a Postfix whose smtpd listens on a port of loopback, with these settings, until the block is left."""
    program = need("postfix")
    if os.geteuid() != 0:
        pytest.skip("postfix must be started by root")
    folder = Path(tempfile.mkdtemp(prefix="triosmtp-smtpd-"))
    folder.chmod(0o755)
    try:
        (folder / "no.pem").write_text("")
        configuration = _configure(folder, folder / "no.pem", ())
        with (configuration / "main.cf").open("a") as main:
            main.writelines(f"{option}\n" for option in options)
        with (configuration / "master.cf").open("a") as services:
            services.write(f"127.0.0.1:{port} inet n - n - - smtpd\n{master}")
        with _started(program, configuration) as postfix:
            yield postfix
    finally:
        shutil.rmtree(folder)


def _configure(folder: Path, ca: Path, routes: Iterable[Route]) -> Path:
    configuration = folder / "etc"
    for name in ("etc", "queue", "data"):
        (folder / name).mkdir(mode=0o755)
    shutil.chown(folder / "data", "postfix")
    shutil.copy(ca, folder / "ca.pem")
    (configuration / "main.cf").write_text(_MAIN.format(folder=folder))
    (configuration / "master.cf").write_text(_MASTER + "".join(route.service for route in routes))
    lines = [f"{route.domain} {route.domain}:[127.0.0.1]:{route.port}\n" for route in routes]
    (folder / "transport").write_text("".join(lines))
    return configuration


@contextmanager
def _started(program: str, configuration: Path) -> Iterator[Postfix]:
    command = [program, "-c", str(configuration), "start-fg"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        postfix = Postfix(configuration, process)
        try:
            postfix.wait_for("daemon started")
            yield postfix
        finally:
            subprocess.run([program, "-c", str(configuration), "stop"], check=False, capture_output=True)
            process.communicate(timeout=TIMEOUT)
