"""`triosmtp serve` as a process, with workers or without, for one dialogue after another."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen
from serve_process import run_cleanly

from triosmtp.testing import Authority

CONF = """
Relay_Domains = ( "example.com" )
Deliver_To = "maildir:{folder}/Maildir"
Spool_Directory = "{folder}/spool"
TLS_Certificate = "{folder}/server.pem"
TLS_Key = "{folder}/server.key"
{more}
ESMTP_Listener {{ Listen "127.0.0.1:0" {{ SMTP_Extensions = ( ENHANCEDSTATUSCODES STARTTLS CHUNKING ) }} }}
"""


@frozen
class ESMTPServer:
    """A server in a process of its own."""

    folder: Path
    port: int
    pid: int
    ca: str

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def delivered(self) -> list[bytes]:
        """Return the bodies in the Maildir, without the header that the server put in front."""
        new = self.folder / "Maildir" / "new"
        texts = [path.read_bytes() for path in sorted(new.iterdir())] if new.exists() else []
        return [re.split(rb"(?m)^(?=Subject:)", text, maxsplit=1)[-1] for text in texts]


@contextmanager
def esmtp_server(folder: Path, more: str = "", *, policy: str = "") -> Iterator[ESMTPServer]:
    """Serve until the block is left; then it must end in good order, and no traceback be in its log."""
    authority = Authority.create()
    authority.issue("localhost", dns=["localhost"]).write(folder, "server")
    if policy:
        (folder / "rules.py").write_text(policy)
    (folder / "my.conf").write_text(CONF.format(folder=folder, more=more))
    with run_cleanly("-c", "my.conf", log=folder / "log", control=folder / "control", cwd=folder) as server:
        yield ESMTPServer(folder, server.port(), server.process.pid, authority.certificate_pem.decode())
