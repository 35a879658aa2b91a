"""Milters of Debian, each with a small configuration of its own: rspamd, OpenDKIM, OpenDMARC, clamav-milter."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from mail_client import need

AUTHSERV_ID = "mx.test"
VIRUS = b"TRIOSMTP-TEST-VIRUS-8f1c"
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

RSPAMD = """
options {{
  pidfile = false; filters = []; enable_test_patterns = true; tempdir = "{folder}"; url_tld = "{folder}/tld";
  disable_hyperscan = true; dns {{ nameserver = ["127.0.0.1:9:1"]; timeout = 0.1s; retransmits = 1; }}
}}
logging {{ type = "console"; level = "warning"; }}
worker "rspamd_proxy" {{
  bind_socket = "{folder}/rspamd mode=0666"; milter = yes; count = 1;
  upstream "local" {{ default = yes; self_scan = yes; }}
}}
actions {{ reject = 15; add_header = 6; }}
lua = "{folder}/rspamd.lua";
"""
RULE = """
rspamd_config:register_symbol({ name = 'TLS_FACTS', score = 0.0, callback = function(task)
  local function fact(name) return tostring(task:get_request_header(name) or 'none') end
  local text = string.format('tls=%s issuer=%s user=%s helo=%s', fact('TLS-Version'), fact('TLS-Cert-Issuer'),
    tostring(task:get_user()), task:get_helo())
  task:set_milter_reply({ add_headers = { ['X-Facts'] = text }, remove_headers = { ['X-Remove'] = 0 } })
  return true
end })
"""
OPENDKIM = """
Mode sv
Domain example.org
Selector test
KeyFile {folder}/dkim.key
RequireSafeKeys no
InternalHosts {folder}/none
MacroList verify=OK
AuthservID {id}
TestPublicKeys {folder}/dkim.pub
Nameservers 127.0.0.1
Syslog no
AlwaysAddARHeader yes
Canonicalization relaxed/simple
"""
OPENDMARC = """
AuthservID {id}
TrustedAuthservIDs {id}
IgnoreHosts {folder}/none
DNSTimeout 1
Syslog no
"""
CLAMD = """
Foreground yes
DatabaseDirectory {folder}/signatures
LocalSocket {folder}/clamd
LocalSocketMode 666
User root
"""
CLAMAV = """
Foreground yes
MilterSocket unix:{folder}/clamav
MilterSocketMode 666
ClamdSocket unix:{folder}/clamd
OnInfected Reject
RejectMsg Infected by %v
AddHeader Replace
User root
"""


class Daemon:
    """A program that listens on a Unix socket, a new one at each start."""

    def __init__(self, folder: Path, socket: str, program: str, *arguments: str) -> None:
        self.socket = folder / socket
        self._folder = folder
        self._command = [need(program), *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self.socket.unlink(missing_ok=True)
        log = (self._folder / f"{self.socket.name}.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + 30
        while not self._listens():
            assert self._process.poll() is None, (self._folder / f"{self.socket.name}.log").read_text()
            assert time.monotonic() < until, f"{self._command[0]} does not listen"
            time.sleep(0.02)

    def _listens(self) -> bool:
        if not self.socket.exists():
            return False
        lines = Path("/proc/net/unix").read_text().splitlines()
        return any(line.endswith(f" {self.socket}") and line.split()[3] == "00010000" for line in lines)

    def signal(self, number: int) -> None:
        """Send a signal to it and its children."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """End it and its children at once.  May be called again."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait(30)
            self._process = None


def rspamd(folder: Path) -> Daemon:
    """Return rspamd's proxy as a milter.  It refuses GTUBE, writes what it knows of TLS, and removes X-Remove."""
    (folder / "tld").write_text("com\nexample\n")
    (folder / "rspamd.lua").write_text(RULE)
    (folder / "rspamd.conf").write_text(RSPAMD.format(folder=folder))
    return Daemon(folder, "rspamd", "rspamd", "-f", "-i", "-c", str(folder / "rspamd.conf"))


def opendkim(folder: Path) -> Daemon:
    """Return OpenDKIM.  It signs mail of clients whose certificate is verified, and verifies all other."""
    key = folder / "dkim.key"
    subprocess.run(
        [need("openssl"), "genrsa", "-traditional", "-out", str(key), "1024"], check=True, capture_output=True
    )
    command = [need("openssl"), "rsa", "-in", str(key), "-pubout"]
    public = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    text = "".join(public.splitlines()[1:-1])
    (folder / "dkim.pub").write_text(f"test._domainkey.example.org v=DKIM1; k=rsa; p={text}\n")
    _write_foreign_hosts(folder)
    (folder / "dkim.conf").write_text(OPENDKIM.format(folder=folder, id=AUTHSERV_ID))
    return Daemon(folder, "dkim", "opendkim", "-f", "-x", str(folder / "dkim.conf"), "-p", f"local:{folder}/dkim")


def _write_foreign_hosts(folder: Path) -> None:
    """Write the list of hosts whose mail is trusted or ignored: by default that is this host."""
    (folder / "none").write_text("192.0.2.99\n")


def opendmarc(folder: Path) -> Daemon:
    """Return OpenDMARC, which reads the results of OpenDKIM."""
    _write_foreign_hosts(folder)
    (folder / "dmarc.conf").write_text(OPENDMARC.format(folder=folder, id=AUTHSERV_ID))
    return Daemon(folder, "dmarc", "opendmarc", "-f", "-c", str(folder / "dmarc.conf"), "-p", f"local:{folder}/dmarc")


def clamd(folder: Path) -> Daemon:
    """Return clamd with one signature of its own."""
    (folder / "signatures").mkdir(exist_ok=True)
    (folder / "signatures" / "test.ndb").write_text(f"Test.Virus:0:*:{VIRUS.hex()}\n")
    (folder / "clamd.conf").write_text(CLAMD.format(folder=folder))
    return Daemon(folder, "clamd", "clamd", "-c", str(folder / "clamd.conf"))


def clamav(folder: Path) -> Daemon:
    """Return clamav-milter; it needs :func:`clamd`."""
    (folder / "clamav.conf").write_text(CLAMAV.format(folder=folder))
    return Daemon(folder, "clamav", "clamav-milter", "-c", str(folder / "clamav.conf"))


MILTERS: dict[str, Callable[[Path], Daemon]] = {
    "rspamd": rspamd, "dkim": opendkim, "dmarc": opendmarc, "clamav": clamav,
}  # fmt: skip
"""Each of them, by the name of its socket."""
